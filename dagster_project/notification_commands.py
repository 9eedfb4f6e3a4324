"""Commands on the dead-letter queue of the raw bucket's notifications."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from dagster_project.reach import SYSTEM_FAILED, Reaching, fail, reach

if TYPE_CHECKING:
    from resources.notifications import DeadLetter, SqsNotifications

_SHOWN = 20
_BODY_CHARACTERS = 160
#: What SQS says of a message only by having moved it.
_MOVED_BY_SQS = "Received several times and never done with."


def register_notification_commands(main: click.Group) -> None:
    """Add these commands to the command line."""
    main.add_command(notifications)


@click.group()
def notifications() -> None:
    """The raw bucket's notifications of what is created in it."""


@notifications.group()
def dead() -> None:
    """The dead-letter queue: what nobody understands, and what kept failing.

    \b
    Examples:
      lakegate notifications dead list
      lakegate notifications dead redrive --all
    """


@dead.command("list", cls=Reaching)
@click.option("--limit", default=1_000, show_default=True, help="Look at so many at most.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def dead_list(limit: int, as_json: bool) -> None:
    """Show what lies in the dead-letter queue, and why. Nothing is taken out of it.

    \b
    Examples:
      lakegate notifications dead list
      lakegate notifications dead list --json | jq -r '.messages[].body'
    """
    from resources.notifications import NotificationsError

    try:
        letters = _queue().dead_letters(most=limit)
    except NotificationsError as problem:
        fail(str(problem), SYSTEM_FAILED)
    if as_json:
        click.echo(json.dumps({"messages": [_told(letter) for letter in letters]}, indent=2))
        return
    if not letters:
        click.echo("The dead-letter queue is empty.")
        return
    for letter in letters[:_SHOWN]:
        click.echo(f"{letter.id}  {letter.since:%Y-%m-%d %H:%M:%S}  {_reason(letter)}")
        body = letter.body if letter.body.isprintable() else repr(letter.body)
        cut = f"{body[:_BODY_CHARACTERS]}..." if len(body) > _BODY_CHARACTERS else body
        click.echo(f"    {cut}")
    if len(letters) > _SHOWN:
        click.echo(f"... and {len(letters) - _SHOWN:,} more; --json lists all.")
    click.echo("`lakegate notifications dead redrive` sends them back to the queue.")


@dead.command(cls=Reaching)
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def redrive(ids: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Send dead letters back to the queue, as if they had just come.

    What has been taken meanwhile is known to the ledger and is not taken again. What still cannot
    be understood comes back here.

    \b
    Examples:
      lakegate notifications dead redrive --all
      lakegate notifications dead redrive 5fea7756-0ea4-451a-a703-a558b933e274
    """
    if bool(ids) == everything:
        fail("Name what is to be sent back: either ids, as `dead list` shows them, or --all.")
    from resources.notifications import NotificationsError

    try:
        sent = _queue().redrive(None if everything else frozenset(ids))
    except NotificationsError as problem:
        fail(str(problem), SYSTEM_FAILED)
    if as_json:
        click.echo(json.dumps({"sent": sent}))
    else:
        click.echo(f"{sent} messages are in the queue again.")
    if not everything and sent < len(set(ids)):
        fail(
            f"{len(set(ids)) - sent} of the messages named are not in the dead-letter queue, or "
            "somebody else looks at them at the moment. Try again in two minutes."
        )


def _queue() -> SqsNotifications:
    from resources.notifications import NotificationsResource

    return NotificationsResource.of(reach().settings).queue()


def _reason(letter: DeadLetter) -> str:
    return letter.reason or _MOVED_BY_SQS


def _told(letter: DeadLetter) -> dict[str, str]:
    return {
        "id": letter.id,
        "since": letter.since.isoformat(),
        "reason": _reason(letter),
        "body": letter.body,
    }
