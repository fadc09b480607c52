"""What every export command has: the three places, and --json."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import typer
from msgspec import Struct
from rich.markup import escape

from stack.cli.output import err
from trading.errors import ConfigurationError

if TYPE_CHECKING:
    from exporters.profiles import Gpu
    from exporters.release.releases import Releases
    from exporters.release.servers import ModelServer
    from exporters.release.torchserve_server import TorchServeServer
    from exporters.release.triton_client import TritonServer
    from exporters.release.triton_servers import Tritons
    from exporters.repository.repository import ModelRepository

T = TypeVar("T")
app = typer.Typer(
    no_args_is_help=True,
    help="Bring registered models to Triton: verified, released, reversible. Works with any MLflow and any Triton "
    "that runs with --model-control-mode=explicit.",
)

PLACES: dict[str, Any] = {
    "mlflow_uri": (
        Annotated[
            str | None,
            typer.Option(
                help="MLflow; default: the stack's.", envvar="MLFLOW_TRACKING_URI", rich_help_panel="Places"
            ),
        ],
        None,
    ),
    "triton_url": (
        Annotated[
            str | None,
            typer.Option(
                help="Triton's gRPC as host:port; of several that serve one repository all, with commas between, "
                "the one that gateways follow first. Default: the stack's.",
                envvar="ULTRATHINK_TRITON_URL",
                rich_help_panel="Places",
            ),
        ],
        None,
    ),
    "repository": (
        Annotated[
            Path | None,
            typer.Option(
                help="Model repository that Triton serves; default: the stack's.", rich_help_panel="Places"
            ),
        ],
        None,
    ),
    "server": (
        Annotated[
            Literal["triton", "torchserve"],
            typer.Option(
                help="What serves it. torchserve takes TorchScript, has a repository of its own, and is archived "
                "upstream: it gets no security fixes.",
                rich_help_panel="Places",
            ),
        ],
        "triton",
    ),
    "torchserve_url": (
        Annotated[
            str | None,
            typer.Option(
                help="TorchServe's management, http://host:port, a comma, and host:port of its gRPC. Its tokens "
                "are in ULTRATHINK_TORCHSERVE_MANAGEMENT_TOKEN and _INFERENCE_TOKEN. Default: the stack's.",
                rich_help_panel="Places",
            ),
        ],
        None,
    ),
    "json": (
        Annotated[bool, typer.Option("--json", help="Print JSON on stdout.", rich_help_panel="Places")],
        False,
    ),
}

TrustOption = Annotated[
    bool, typer.Option("--trust", help="Open pickles too, in a process of their own: they run their author's code.")
]
TargetOption = Annotated[
    str,
    typer.Option(
        help="Triton container that must be able to read it; default: 25.03-py3, or the one of --triton-facts."
    ),
]
FactsOption = Annotated[
    Path | None, typer.Option("--triton-facts", help="TOML that describes a container which is not known here.")
]
GpuOption = Annotated[str, typer.Option(help="GPU that must be able to hold it.")]


class Places(Struct, frozen=True):
    """Where models come from and go to."""

    mlflow_uri: str | None
    triton_url: str | None
    repository: Path | None
    json: bool
    server: str = "triton"
    torchserve_url: str | None = None

    def call(self, words: str) -> str:
        """A command of `ultrathink export` for a hint: with the places that were given to this one, but MLflow's.

        What is released needs no MLflow, whose address may hold a password.
        """
        given = {
            "--server": None if self.server == "triton" else self.server,
            "--repository": self.repository,
            "--triton-url": self.triton_url,
            "--torchserve-url": self.torchserve_url,
        }  # fmt: skip
        places = "".join(f" {name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None)
        return f"`ultrathink export {words}{places}`"

    def mlflow(self) -> str:
        """MLflow's address."""
        from stack.servers.settings import load

        return self.mlflow_uri or load().mlflow_uri

    def models(self) -> ModelRepository:
        """The model repository."""
        from exporters.repository.repository import ModelRepository
        from stack.servers.settings import load

        kept = load()
        own = kept.torchserve_repository if self.server == "torchserve" else kept.model_repository
        return ModelRepository(self.repository or own)

    def tritons(self) -> Tritons:
        """A connection to the server, or to each of several. Raises ServiceUnavailable, ConfigurationError."""
        if self.server == "torchserve":
            return self.torchserve()
        from connectors.triton.addresses import split
        from exporters.release.triton_servers import connect

        return connect(self._told(split))

    def torchserve(self) -> TorchServeServer:
        """A connection to TorchServe. Raises ServiceUnavailable, ConfigurationError."""
        from stack.servers.torchserve import ARCHIVED
        from stack.workflows.torchserve import place

        err.print(ARCHIVED, style="yellow", markup=False, soft_wrap=True)
        return place(self.torchserve_url).connect(self.models())

    def one(self) -> ModelServer:
        """A connection to the only server. Raises ServiceUnavailable, ConfigurationError."""
        return self.torchserve() if self.server == "torchserve" else self.triton()

    def triton(self) -> TritonServer:
        """A connection to the only Triton. Raises ServiceUnavailable, ConfigurationError."""
        if self.server == "torchserve":
            raise ConfigurationError("this is for Triton alone: leave --server torchserve out")
        from connectors.triton.addresses import only
        from exporters.release.triton_client import TritonServer

        return TritonServer(self._told(only))

    def _told(self, read: Callable[[str, str], T]) -> T:
        from stack.servers.settings import load

        try:
            return read(self.triton_url or load().triton_grpc, "--triton-url")
        except ValueError as error:
            raise ConfigurationError(str(error)) from None

    def releases(self, gpu: Gpu, progress: Callable[[str], None]) -> Releases:
        """Releases of this repository on this server, or on all that serve it."""
        from exporters.release.releases import Releases

        return Releases(self.models(), self.tritons(), gpu, progress)


def command(name: str, example: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command whose first parameter is `places`; its own options are added to it."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        """The function as it was; what is called has those options more."""
        hints = get_type_hints(function, include_extras=True)
        own = [p for p in inspect.signature(function).parameters.values() if p.name != "places"]
        added = [
            inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for n, (kind, default) in PLACES.items()
        ]

        def run(**given: Any) -> None:
            places = Places(**{n: given.pop(n) for n in PLACES})
            function(places, **given)

        run.__name__, run.__doc__ = function.__name__, function.__doc__
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name]) for p in own] + added
        )
        run.__annotations__ = {p.name: hints[p.name] for p in own} | {n: kind for n, (kind, _) in PLACES.items()}
        app.command(name, epilog=f"Example: ultrathink export {example}")(run)
        return function

    return register


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done."""
    with err.status(what) as status:
        yield lambda text: status.update(escape(text))
