"""`ultrathink data serve`, and who may ask it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from stack.cli.data.command import Json, app
from stack.cli.output import err, out, print_json, table


class ScopeName(StrEnum):
    """What a token may ask."""

    MARKET = "market"
    DECISIONS = "decisions"
    ANALYSE = "analyse"


@app.command(epilog="Example: ultrathink data serve --port 8010")
def serve(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="To listen on; default: the stack's, else 8010; 0: a free one."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="To listen on; loopback unless asked.")] = None,
) -> None:
    """Answer over HTTP for ticks, features and decisions, and archive the ticks, until SIGTERM or Ctrl-C.

    GET /openapi.json says what can be asked, docs/api.md shows it. Every request but for health needs a token.
    """
    from services.data.main import run
    from stack.processes.settings import data_settings, forensics_settings
    from stack.workflows.analyses import TrailAnalyses, TrailEvidence
    from stack.workflows.asking import place_of_models

    settings = data_settings(port=port, host=host)
    trail = forensics_settings()
    run(
        settings,
        TrailEvidence(trail),
        TrailAnalyses(trail, place_of_models()),
        lambda bound: err.print(f"listens on http://{settings.host}:{bound}", markup=False, soft_wrap=True),
    )


@app.command(epilog="Example: ultrathink data token console --scope market --scope decisions")
def token(
    name: Annotated[str, typer.Argument(help="Of whoever will hold it.")],
    scope: Annotated[list[ScopeName] | None, typer.Option(help="What it may ask; default: market.")] = None,
    take_back: Annotated[bool, typer.Option("--take-back", help="Let it in no more.")] = False,
    json: Json = False,
) -> None:
    """Give out a token, printed once and kept by its hash alone; or take one back. Holds within a second."""
    from services.data.api.tokens import give_out
    from services.data.api.tokens import take_back as take
    from stack.processes.settings import data_settings

    path = data_settings().tokens
    if take_back:
        take(path, name)
        told = {"name": name, "taken_back": True}
        text = f"{name} is let in no more"
    else:
        scopes = [one.value for one in scope or [ScopeName.MARKET]]
        made = give_out(path, name, scopes)  # type: ignore[arg-type]
        told = {"name": name, "scopes": scopes, "token": made}
        text = made
    if json:
        print_json(told)
    else:
        out.print(text, markup=False, soft_wrap=True)


@app.command(epilog="Example: ultrathink data tokens --json")
def tokens(json: Json = False) -> None:
    """Who holds a token, and what it may ask."""
    from services.data.api.tokens import DESK, SCOPES, known_tokens
    from stack.processes.settings import data_settings

    settings = data_settings()
    known = [(one.name, list(one.scopes)) for one in known_tokens(settings.tokens)]
    if settings.token.get_secret_value():
        known.insert(0, (DESK, list(SCOPES)))
    if json:
        print_json([{"name": name, "scopes": scopes} for name, scopes in known])
    elif known:
        out.print(table("", ["name", "scopes"], [[name, ", ".join(scopes)] for name, scopes in known]))
    else:
        out.print("none was given out: `ultrathink data token NAME` does")
