"""The command that builds a calibration bank on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from app.cli.common import model_directory, verbose_option
from app.cli.following import run
from app.core.render.visible import visible
from app.core.scanning import Calibrated, Job


@click.command()
@click.argument("base", type=click.Path(path_type=Path))
@click.option(
    "--adapters",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory with benign adapters in it.",
)
@click.option("--base-name", help="Name that adapters know the base by, where it is not the directory's.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File of the bank; where it is not given, scans of BASE on this machine read the bank from now on.",
)
@click.option("--dtype", default="auto", show_default=True, type=click.Choice(["auto", "float32", "bfloat16"]))
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]))
@verbose_option
def calibrate(
    base: Path, adapters: Path, base_name: str | None, out: Path | None, dtype: str, device: str, verbose: bool
) -> None:
    """Build a bank from benign adapters of BASE: what shifts without a trigger look like when nothing is planted.

    Only adapters that are known to be benign belong into it. What was observed is kept: a stopped run goes on.
    """
    job = Job(
        task="calibrate",
        base=model_directory(base, "BASE"),
        base_name=base_name,
        adapters=str(adapters.absolute()),
        out=str(out.absolute()) if out else None,
        dtype=dtype,
        device=device,
    )
    answer = cast(Calibrated, run(job, verbose))
    for name, reason in answer.left_out.items():
        click.echo(f"left out: {visible(name)}: {visible(reason)}", err=True)
    click.echo(f"written: {visible(str(answer.bank))}, {answer.members} members", err=True)
