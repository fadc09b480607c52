"""Routes of what would have been: in the background, with progress."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from services.data.api import models
from services.data.api.asking import text_of
from services.data.api.formats import answer
from services.data.api.guard import need
from services.data.api.jobs import Jobs
from services.data.errors import NotFound, Unprocessable
from services.data.ports import Analyses
from services.data.trail.queries import TrailQuestions


def analysis_routes(analyses: Analyses, jobs: Jobs, trail: TrailQuestions) -> APIRouter:
    """Each begins a job; its result is asked for."""
    routes = APIRouter(tags=["analyses"], dependencies=[Depends(need("analyse"))])

    @routes.post(
        "/v1/what-if", response_model=models.JobAnswer, status_code=202,
        summary="What would have been decided under other limits, or by another model",
    )  # fmt: skip
    def what_if(asked: models.WhatIf) -> Response:
        if asked.limits is None and asked.model is None:
            raise Unprocessable("name what would have been another: limits, model, or both")
        if trail.record(text_of("decision_id", asked.decision_id)) is None:
            raise NotFound(f"{asked.decision_id[:200]} is not on record")
        job = jobs.start(
            "what-if", "", lambda told: analyses.what_if(asked.decision_id, asked.limits, asked.model, told)
        )
        return answer(job.to_answer(), status=202, headers={"Location": f"/v1/jobs/{job.id}"})

    @routes.post(
        "/v1/limits/simulate", response_model=models.JobAnswer, status_code=202,
        summary="What other limits would have done to the recorded decisions",
    )  # fmt: skip
    def simulate(asked: models.Simulate) -> Response:
        job = jobs.start("simulate", "", lambda told: analyses.simulate(asked.limits, asked.most_ticks, told))
        return answer(job.to_answer(), status=202, headers={"Location": f"/v1/jobs/{job.id}"})

    @routes.get("/v1/jobs/{job_id}", response_model=models.JobAnswer, summary="How far a job is, and its result")
    def job(job_id: str) -> Response:
        return answer(jobs.get(job_id).to_answer())

    return routes
