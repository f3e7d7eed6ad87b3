r"""Searches the best values of config keys for each variant, on the validation split.

    siren-rope sweep --config=configs/sweep/NAME.py --workdir=DIR [--config.trials=16] \
        [--config.jobs=2] [--variants=ordinal,siren_rope] [--index=I --of=N]

Every trial is one training, in DIR/<dataset>/<variant>/trial_<n>. sweep.md and sweep.json list the
finished ones, the best first, also after Ctrl-C. best.json has the values of each variant's best
trial, with which `siren-rope ablate --chosen=DIR/best.json` compares the variants on the
test split. The same command resumes an interrupted sweep, and goes on with more trials. A trial
that fails, such as one whose loss is not finite, does not stop the others. With --variants only
these are searched now; best.json has all whose trials are done.

As one of N array jobs (Slurm), all with the same DIR, --index=I (from 0) and --of=N train every Nth
trial only. The same command without them writes the report, and trains what is missing.
"""

from pathlib import Path

from absl import flags

from siren_rope_jax.base import cli
from siren_rope_jax.base.config import from_config_dict
from siren_rope_jax.base.errors import UserError

with cli.needs("plots,prepare"):
    from siren_rope_jax.studies.ablation import check_known
    from siren_rope_jax.studies.datasets import prepare_logs, reserved
    from siren_rope_jax.studies.jobs import execute
    from siren_rope_jax.studies.sweep import Sweep, claim, plan, train_trial, write_report

_FLAGS = cli.new_flags()
_CONFIG = cli.config_flag(_FLAGS, "What to search.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the trials and the report.", required=True, flag_values=_FLAGS
)
_VARIANTS = flags.DEFINE_list(
    "variants", None, "Search only these variants; all by default.", flag_values=_FLAGS
)
_share = cli.share_flags(_FLAGS)


def main() -> None:
    """Runs what the flags describe."""
    workdir = Path(_WORKDIR.value)
    sweep = from_config_dict(Sweep, _CONFIG.value)
    known = [variant.name for variant in sweep.variants]
    wanted = known if _VARIANTS.value is None else _VARIANTS.value
    check_known(wanted, known, "--variants")
    planned = plan(sweep, workdir)
    trials = [trial for trial in planned if trial.variant in wanted]
    if (own := _share(trials)) is not None:
        with reserved(workdir, wait=True):  # the first of the jobs prepares the logs
            claim(sweep, workdir)
            prepare_logs(sweep.datasets, workdir)
        failures = execute(own, sweep.jobs, train_trial)
        if own and len(failures) == len(own):  # of many jobs, some may have none
            _refuse(workdir, failures)
        return
    with reserved(workdir):
        claim(sweep, workdir)
        prepare_logs(sweep.datasets, workdir)
        try:
            failures = execute(trials, sweep.jobs, train_trial)
        finally:
            begun = {trial.variant for trial in planned if trial.is_finished()}
            if begun:
                reported = [t for t in planned if t.variant in begun.union(wanted)]
                path = write_report(sweep, workdir, reported)
    if len(failures) == len(trials):
        _refuse(workdir, failures)
    print(f"\n{path.read_text(encoding='utf-8')}\n{path}")


def _refuse(workdir: Path, failures: list[str]) -> None:
    raise UserError(workdir, f"all trials failed: {'; '.join(failures)}")


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS, config_for="sweep")
