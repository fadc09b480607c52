"""`ultrathink kafka`: what a desk needs of a cluster that is not its own stack's."""

from __future__ import annotations

from typing import Annotated

import typer

from stack.cli.output import out, print_json, table

app = typer.Typer(no_args_is_help=True, help="Topics, users and permissions of a desk, on any cluster.")


@app.command(epilog="Example: ultrathink kafka setup --bootstrap kafka-1:19092 --replicas 3")
def setup(
    bootstrap: Annotated[str, typer.Option(help="Broker addresses, comma-separated.")],
    partitions: Annotated[int, typer.Option(min=1, max=256, help="Of each topic but the control topic.")] = 4,
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
    from connectors.kafka.topics import TOPICS

    secured = bool(os.environ.get(SECRETS))
    # All of them first: half of the users are no use to anybody.
    passwords = {role: password(role) for role in ACCESS} if secured else {}
    before = act_as(ADMIN)
    try:
        create_desk_topics(bootstrap, {name: role for role, name in TOPICS.by_role().items()}, partitions, replicas)
        if secured:
            grant(bootstrap, TOPICS, passwords)
    finally:
        act_as(before)
    out.print(
        f"{len(TOPICS.by_role())} topics" + (f", {len(passwords)} users" if secured else "") + f" on {bootstrap}"
    )


@app.command(epilog="Example: ultrathink kafka roles --json")
def roles(json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False) -> None:
    """What each role may do; whatever is not listed is denied."""
    from connectors.kafka.access import ACCESS
    from connectors.kafka.topics import TOPICS

    if json:
        print_json(ACCESS)
        return
    names = TOPICS.by_role()
    rows = [
        [
            role,
            ", ".join(names[topic] for topic in access.reads),
            ", ".join(names[topic] for topic in access.writes),
            ", ".join(f"{group}*" for group in access.groups),
        ]
        for role, access in ACCESS.items()
    ]
    out.print(table("", ["role", "reads", "writes", "groups"], rows, prose=True))
