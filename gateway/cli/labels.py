"""`audition labels`: the truth about earlier predictions, from files.

An import keeps no state of its own: the gateway knows which labels it has, so the way to go on
after an interruption is to import the file again. A note of what was sent would only be a second
opinion, wrong after the file was edited or the gateway restored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.label_files import Format, format_of, open_labels
from gateway.cli.session import AsJson, Session, note, show, usage_error
from gateway.errors import AuditionError

app = typer.Typer(help="Send labels to the gateway.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Send labels to the gateway."""


@app.command("import")
def import_labels(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A file of labels.")],
    *,
    form: Annotated[
        Format | None, typer.Option("--format", help="Default: what the file's name ends in.")
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write refused rows here, as NDJSON with reasons."),
    ] = None,
    text_labels: Annotated[
        bool,
        typer.Option("--text-labels", help="CSV, SageMaker: the label 1 is a text, no number."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send a file of labels: NDJSON, CSV, Parquet, SageMaker. Needs a key of role label.

    Importing a file again changes nothing, and goes on where an import was interrupted. Exits 1
    if a row was invalid; the others are kept.

    `audition labels import labels.csv --rejects refused.ndjson`
    """
    from gateway.cli.label_import import Import  # noqa: PLC0415
    from gateway.cli.label_rejects import SHOWN, Rejects  # noqa: PLC0415
    from gateway.cli.views import line_view, progress_bar  # noqa: PLC0415

    if rejects is not None and rejects.exists() and rejects.samefile(file):
        raise usage_error("--rejects would overwrite the file that is imported")
    labels = open_labels(file, form or format_of(file), text_labels=text_labels)
    session: Session = context.obj
    with (
        Rejects(rejects, place=labels.place) as refused,
        session.client() as client,
        progress_bar(file.name, file.stat().st_size) as advance,
    ):
        done = Import(client, refused, advance)
        try:
            done.run(labels.rows)
        except (AuditionError, typer.BadParameter, KeyboardInterrupt):
            if done.rows:
                note(f"stopped after {done.rows} rows; import the file again to go on")
            raise
    if (hidden := done.counts["invalid"] - SHOWN) > 0:
        note(f"{hidden} more rows are refused; --rejects FILE has each with its reason")
    text = "accepted {accepted}, duplicate {duplicate}, invalid {invalid}"
    show(done.counts, line_view(text), as_json=as_json)
    if done.counts["invalid"]:
        raise typer.Exit(1)
