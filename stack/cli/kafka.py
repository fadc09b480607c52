"""`ultrathink kafka`: what a desk needs of a cluster that is not its own stack's."""

from __future__ import annotations

from typing import Annotated

import typer

from stack.cli.output import out, print_json, table

app = typer.Typer(no_args_is_help=True, help="Topics, users and permissions of a desk, on any cluster.")


@app.command(epilog="Example: ultrathink kafka setup --bootstrap kafka-1:19092 --replicas 3")
def setup(
    bootstrap: Annotated[str, typer.Option(help="Broker addresses, comma-separated.")],
    partitions: Annotated[
        int, typer.Option(min=1, max=256, help="Of each topic; control and scratch have one.")
    ] = 4,
    replicas: Annotated[int, typer.Option(min=1, help="Of each partition.")] = 3,
) -> None:
    """Create a desk's topics, and where Kafka knows users, those and what each may do. Twice is harmless.

    With ULTRATHINK_KAFKA_SECRETS, a folder with a file `kafka-ROLE` a role, each holding its password: it connects
    as `admin`, makes the other roles' users, and gives each what it needs (`ultrathink kafka roles`).
    """
    import os

    from connectors.kafka.access import ACCESS, grant
    from connectors.kafka.admin import create_desk_topics
    from connectors.kafka.identity import ADMIN, SECRETS, act_as, password
    from stack.processes.settings import gateway_settings

    # Whatever the gateways' settings call them.
    settings = gateway_settings()
    topics = settings.topics
    secured = bool(os.environ.get(SECRETS))
    # All of them first: half of the users are no use to anybody.
    passwords = {role: password(role) for role in ACCESS} if secured else {}
    before = act_as(ADMIN)
    try:
        create_desk_topics(bootstrap, {name: role for role, name in topics.by_role().items()}, partitions, replicas)
        if secured:
            grant(bootstrap, topics, passwords, settings.group)
    finally:
        act_as(before)
    out.print(
        f"{len(topics.by_role())} topics" + (f", {len(passwords)} users" if secured else "") + f" on {bootstrap}"
    )


@app.command(epilog="Example: ultrathink kafka roles --json")
def roles(json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False) -> None:
    """What each role may do; whatever is not listed is denied."""
    from connectors.kafka.access import ACCESS
    from stack.processes.settings import gateway_settings

    names = gateway_settings().topics.by_role()
    found = {
        role: {
            "reads": [names[topic] for topic in access.reads],
            "writes": [names[topic] for topic in access.writes],
            "looks up": [names[topic] for topic in access.looks_up],
            "groups": [f"{begin}*" for begin in access.groups],
            "sees groups": [f"{begin}*" for begin in access.sees],
            "transactions": [f"{begin}*" for begin in access.transactions],
        }
        for role, access in ACCESS.items()
    }
    if json:
        print_json(found)
        return
    rows = [
        [role if not k else "", what, ", ".join(some)]
        for role, access in found.items()
        for k, (what, some) in enumerate((what, some) for what, some in access.items() if some)
    ]
    out.print(table("", ["role", "", "whose names begin so where there is a *"], rows))
    out.print("admin may do everything: brokers, and `ultrathink kafka setup`, are it")
