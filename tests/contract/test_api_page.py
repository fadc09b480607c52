"""docs/api.md: what it asks can be asked, and what it shows is what is answered."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from services.data.api import models
from services.data.api.app import DataService, application
from services.data.errors import Refused
from services.data.settings import DataSettings
from tests.paths import ROOT
from tests.unit.services.data.api.test_app import FakeAnalyses, FakeEvidence

PAGE = (ROOT / "docs" / "api.md").read_text()
SHOWN = re.findall(r"\$ curl [^\n]*'http://127\.0\.0\.1:8010([^']+)'\n(.*?)\n```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def document():
    """Nothing is asked of what it is made of."""
    nothing = object()
    service = DataService(
        nothing, nothing, FakeEvidence(), FakeAnalyses(), nothing, nothing, dict, dict, nothing, 31
    )  # fmt: skip
    return application(service).openapi()


def route_of(document, path):
    for template in sorted(document["paths"], key=len, reverse=True):
        if re.fullmatch(re.sub(r"\\{\w+\\}", ".+", re.escape(template)), path):
            return document["paths"][template]
    raise AssertionError(f"{path} is not answered")


def test_the_page_shows_answers():
    assert len(SHOWN) >= 6


@pytest.mark.parametrize(("asked", "told"), SHOWN, ids=[asked for asked, _ in SHOWN])
def test_what_is_asked_can_be_asked_and_what_is_shown_is_whole(document, asked, told):
    place = urlsplit(asked)
    route = route_of(document, place.path)["get"]
    known = {one["name"] for one in route.get("parameters", [])}
    assert set(parse_qs(place.query)) <= known
    name = route["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    answer = json.loads(told)
    getattr(models, name).model_validate(answer)
    if name == "FeatureAnswer":
        assert len(answer["features"]) == 32


def test_every_path_that_the_page_names_is_answered(document):
    for method, path in re.findall(r"`(GET|POST) (/v1/[^`?]*)", PAGE):
        template = path.replace("{id}", "{decision_id}").replace("{job}", "{job_id}").strip()
        assert method.lower() in route_of(document, template), path


def test_every_setting_and_status_that_the_page_names_is_there():
    for name in set(re.findall(r"ULTRATHINK_DATA_(\w+)", PAGE)):
        assert name.lower() in DataSettings.model_fields
    statuses = {int(one) for line in PAGE.splitlines() if re.match(r"\| \d{3}", line) for one in re.findall(r"\d{3}", line.split("|")[1])}  # fmt: skip
    kinds = {kind.status for kind in Refused.__subclasses__()}
    assert kinds - {400} <= statuses
    defaults = DataSettings()
    assert f"{defaults.most_at_once} requests in work" in PAGE
    assert f"{defaults.most_tails} tails" in PAGE
    assert f"{defaults.most_days} days" in PAGE
    assert f"takes {defaults.redis_cache_mb} MB at most" in PAGE
