r"""Trains every variant on every data set with every seed, and writes one report.

    siren-rope ablate --config=configs/ablation/NAME.py --workdir=DIR \
        [--config.jobs=2] [--variants=ordinal,siren_rope] [--chosen=SWEEP/best.json] \
        [--index=I --of=N]

--config.jobs is the number of runs at a time; on a TPU, which serves one process at a time, it must
be 1. The first seed of all variants is trained first, then the next. Every run is written to
DIR/<dataset>/<variant>/seed_<s>; report.md, report.json and pictures of the finished runs are
written to DIR, also after Ctrl-C, and the report is printed. The same command resumes an
interrupted ablation.

As one of N array jobs (Slurm), all with the same DIR, --index=I (from 0) and --of=N run every Nth
run only. The same command without them writes the report, and trains what is missing.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from siren_rope_jax.base import cli
from siren_rope_jax.base.config import from_config_dict
from siren_rope_jax.base.errors import UserError

with cli.needs("plots,prepare"):
    from siren_rope_jax.studies.ablation import Ablation, Run, plan
    from siren_rope_jax.studies.datasets import prepare_logs, reserved
    from siren_rope_jax.studies.jobs import execute
    from siren_rope_jax.studies.report import run_and_report

_FLAGS = cli.new_flags()
_CONFIG = cli.config_flag(_FLAGS, "What to compare.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the runs and the report.", required=True, flag_values=_FLAGS
)
_VARIANTS = flags.DEFINE_list(
    "variants",
    None,
    "Compare only these variants, the baseline among them; all by default.",
    flag_values=_FLAGS,
)
_CHOSEN = flags.DEFINE_string(
    "chosen", None, "A sweep's best.json, whose settings the variants get.", flag_values=_FLAGS
)
_share = cli.share_flags(_FLAGS)


def main() -> None:
    """Runs what the flags describe."""
    workdir = Path(_WORKDIR.value)
    ablation = from_config_dict(Ablation, _CONFIG.value)
    if _VARIANTS.value is not None:
        ablation = ablation.only(_VARIANTS.value)
    runs: Sequence[Run] = plan(ablation, workdir, _CHOSEN.value)
    if (own := _share(runs)) is not None:
        with reserved(workdir, wait=True):  # the first of the jobs prepares the logs
            prepare_logs(ablation.datasets, workdir)
        runs = own
        failures = execute(runs, ablation.jobs)
    else:
        with reserved(workdir):
            prepare_logs(ablation.datasets, workdir)
            failures = run_and_report(ablation, workdir, runs)
        path = workdir / "report.md"
        if path.is_file():
            print(f"\n{path.read_text(encoding='utf-8')}\n{path}")
    if failures:
        failed = f"{len(failures)} of {len(runs)} runs failed"
        raise UserError(workdir, f"{failed}: {'; '.join(failures)}")


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS, config_for="ablate")
