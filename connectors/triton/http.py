"""Triton by HTTP: how requests are encoded and answers decoded."""

from __future__ import annotations

from tritonclient.http import InferenceServerClient, InferInput

__all__ = ["InferInput", "InferenceServerClient"]
