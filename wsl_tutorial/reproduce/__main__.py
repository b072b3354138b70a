"""Run the commands list, run, table, metrics and publish of this program."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import fnmatch
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from . import cluster, ledger, papers, plan, records, runner, tables
from .experiment import PROTOCOLS, Experiment
from .records import say


def seeds(text: str) -> list[int]:
    """Return `0-9`, `3`, `0,3,5-7` as a list. Raises ArgumentTypeError for anything else."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not of the form 0-9 or 0,3,5, below a million."
            )
        found += range(first, last + 1)
    return sorted(set(found))


def not_negative(text: str) -> float:
    """Return a number that is 0 or more. Raises ArgumentTypeError for anything else."""
    with contextlib.suppress(ValueError):
        if float(text) >= 0:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more.")


def pick(patterns: Iterable[str], experiments: dict[str, Experiment]) -> list[Experiment]:
    """Return the experiments that match names or shell patterns.

    Raises ValueError with the nearest name if a pattern matches none.
    """
    names: list[str] = []
    for pattern in patterns:
        matches = fnmatch.filter(experiments, pattern)
        if not matches:
            near = fnmatch.filter(experiments, f"{pattern}/*") and [f"{pattern}/*"]
            near = near or difflib.get_close_matches(pattern, experiments, n=1, cutoff=0.0)
            raise ValueError(
                f"no experiment {pattern!r}" + (f"; did you mean {near[0]}?" if near else ".")
            )
        names += [name for name in matches if name not in names]
    return [experiments[name] for name in names]


def run(args: argparse.Namespace, started: float) -> int:
    """Run what is not finished. Return 0 if all is finished, 3 if runs remain, 1 if one failed."""
    engine = engine_of(args)
    if not args.names and not args.plan:
        raise ValueError(
            "NAME: give the name of an experiment, a pattern such as 'mcmil/*', or --plan."
        )
    experiments = pick(args.names or ["*"], {e.name: e for p in papers() for e in p.experiments})
    out, rank, shared = Path(args.out), *torchrun()
    if rank == 0:
        writable(out)
    options = {"out": out, "device": args.device, "interval": args.checkpoint_every}
    options["deadline"] = started + args.budget
    if args.plan:
        end = run_plan(args, experiments, engine, options)
    else:
        end = run_names(args, experiments, engine, options, shared)
    if rank == 0 and runner.PARENT not in os.environ:
        close(out, args.names)
    return end


def close(out: Path, names: list[str]) -> None:
    """Print the file with the records, and the commands that show them."""
    held = records.parse(out / "records.jsonl")[0]
    if not held:
        return
    ran = {record["experiment"] for record in held if record["protocol"] != "smoke"}
    what = "these commands show them:" if ran else "no table shows the protocol smoke."
    say(f"records: {out / 'records.jsonl'} ({len(held)}); {what}")
    keys = sorted(p.key for p in papers() if ran & {e.name for e in p.experiments})
    for name in [n for n in names if fnmatch.filter(ran, n)] or keys:
        words = shlex.join(["table", name, "--out", str(out)])
        print(f"  python -m {__package__} {words}", file=sys.stderr)


def run_names(
    args: argparse.Namespace,
    experiments: list[Experiment],
    engine: Callable[..., list[int]],
    options: dict[str, Any],
    shared: bool,
) -> int:
    """Run all seeds of the experiments, in their order."""
    jobs = [
        (experiment, seed, args.protocol)
        for experiment in experiments
        for seed in (range(experiment.seeds) if args.seeds is None else args.seeds)
    ]
    # runs that several processes share are checked by the first process, in `execute`
    done = set() if shared else runner.finished(options["out"])
    left = [job for job in jobs if job[0].record_id(*job[1:]) not in done]
    if len(left) < len(jobs):
        say(f"finished already: {len(jobs) - len(left)} of {len(jobs)} runs.")
    if not left:
        return runner.FINISHED
    ends = engine(left, **options)
    if runner.UNFINISHED in ends and runner.PARENT not in os.environ:
        say(f"runs left: {ends.count(runner.UNFINISHED)}; the same command resumes them.")
    return status(ends)


def run_plan(
    args: argparse.Namespace,
    experiments: list[Experiment],
    engine: Callable[..., list[int]],
    options: dict[str, Any],
) -> int:
    """Run the experiments without a record, in the order of their worth, and list the rest."""
    from .. import data

    experiments = [e for e in experiments if args.protocol in ("paper", *e.protocols)]
    if not experiments:
        raise ValueError(f"--protocol: none of these experiments has the protocol {args.protocol}.")
    device, out = args.device or runner.auto_device(), options["out"]
    published = records.published()
    held = [*published, *records.load(out / "records.jsonl")]
    without = plan.order(experiments, args.seeds, args.protocol, device, held)
    needed = {name for s in without if args.protocol != "smoke" for name in s.experiment.data}
    lost = {name for name in needed if not data.available(name)}
    steps = [step for step in without if not lost.intersection(step.experiment.data)]
    if lost:
        number, names = len(without) - len(steps), ", ".join(sorted(lost))
        say(f"runs left out, as their data are not here: {number} ({names}).")
    say(f"plan: {len(steps)} runs of protocol {args.protocol}, {plan.ORDER}.")
    if all(lost.intersection(e.data) for e in experiments):
        return runner.UNFINISHED

    def needs(job: runner.Job) -> float | None:
        """Return the seconds that a run still takes, by the records so far and its checkpoint."""
        now = [*published, *records.parse(out / "records.jsonl")[0]]
        seconds, _ = plan.cost(job[0], job[2], device, now)
        if seconds is None:
            return None
        return max(seconds - runner.spent(out, job[0].record_id(*job[1:])), 1.0)

    ends = []
    if steps:
        jobs = [step.job for step in steps]
        ends = engine(jobs, **options, needs=lambda job: needs(job) or 0.0, threads=1)
    rest = [step for step, end in zip(steps, ends, strict=True) if end != runner.FINISHED]
    if rest or not lost:
        seconds = [needs(step.job) for step in rest]
        sys.stderr.write(plan.remains(rest, seconds, args.workers or 1))
    return status(ends)


def status(ends: list[int]) -> int:
    """Return the exit status of some runs, and print the number of failures."""
    if runner.FAILED in ends:
        say(f"runs failed: {ends.count(runner.FAILED)}; their errors are above.")
    return runner.FAILED if runner.FAILED in ends else max(ends, default=runner.FINISHED)


def torchrun() -> tuple[int, bool]:
    """Return the rank of this process, and True if torchrun started others to share its runs."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)) > 1


def writable(out: Path) -> None:
    """Make the folder. Raises ValueError if it cannot be written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        records.write_whole(out / f".probe-{os.getpid()}", b"x" * 4096)
        (out / f".probe-{os.getpid()}").unlink()
    except OSError as error:
        raise ValueError(f"cannot write in {out}: {error.strerror}.") from None


def engine_of(args: argparse.Namespace) -> Callable[..., list[int]]:
    """Return the function that runs the jobs. Raises ValueError for options of another engine."""
    engines = {"local": runner.local, "ray": cluster.on_ray, "torchrun": cluster.together}
    name = "torchrun" if torchrun()[1] else args.engine
    if name == "torchrun" and args.engine == "ray":
        raise ValueError("--engine ray: torchrun starts processes for one run, not for many.")
    own = {
        "workers": ("--jobs", "local"),
        "gpus": ("--gpus-per-run", "ray"),
        "cpus": ("--cpus-per-run", "ray"),
        "retries": ("--retries", "ray"),
        "capture": ("--capture", "local"),
    }
    if args.plan and name != "local":
        raise ValueError(f"--plan is for the engine local, and this is {name}.")
    options = {k: getattr(args, k) for k in own if getattr(args, k) is not None}
    for flag, engine in (own[k] for k in options):
        if engine != name:
            raise ValueError(f"{flag} is for the engine {engine}, and this is {name}.")
    if options.get("workers", 1) < 1:
        raise ValueError(f"--jobs: {args.workers} is not 1 or more.")
    return partial(engines[name], **options)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m wsl_tutorial.reproduce", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    records_of = {"default": None, "metavar": "DIR", "help": "count the records of this folder too"}

    sub = commands.add_parser("list", help="list papers, one line each, or the given names")
    sub.add_argument("what", nargs="*", help="mcmil, mist/2, or experiments: 'mcmil/*'")
    sub.add_argument("--all", action="store_true", help="every experiment: cost, data, numbers")
    states = ", ".join(ledger.STATES)
    sub.add_argument("--state", help=f"the numbers in one state, a line each: {states}")
    sub.add_argument("--json", action="store_true", help="one object for each number of the ledger")
    sub.add_argument("--out", **records_of)

    sub = commands.add_parser("run", help="run experiments; stop and resume at will")
    sub.add_argument("names", nargs="*", metavar="NAME", help="a name, or a pattern: 'mcmil/*'")
    sub.add_argument("--seeds", type=seeds, default=None, help="0-9 or 0,3,5 (default: all)")
    sub.add_argument(
        "--protocol", choices=PROTOCOLS, default="short", help="(default: %(default)s)"
    )
    sub.add_argument(
        "--plan",
        action="store_true",
        help="run what has no record yet (published or in --out): most ledger cells per hour "
        "first, further seeds last. A run that --budget has no time for is skipped. One thread a "
        "run; --budget 0 only lists what remains; NAMEs default to all",
    )
    sub.add_argument("--jobs", type=int, dest="workers", help="processes side by side (default: 1)")
    sub.add_argument("--budget", type=not_negative, default=float("inf"), help="seconds, then stop")
    sub.add_argument("--out", default="runs", help="folder of the records (default: runs)")
    sub.add_argument("--device", choices=("cpu", "cuda"), default=None, help="default: cuda if any")
    sub.add_argument(
        "--checkpoint-every",
        type=not_negative,
        default=60.0,
        metavar="SECONDS",
        help="between checkpoints (default: 60)",
    )
    sub.add_argument("--capture", action="store_true", default=None, help="mist/*: CUDA graphs")
    sub.add_argument("--engine", choices=("local", "ray"), default="local", help="default: local")
    of_ray = sub.add_argument_group("engine ray")
    share = {"type": not_negative, "metavar": "N", "help": "may be a fraction"}
    of_ray.add_argument("--gpus-per-run", dest="gpus", **share)
    of_ray.add_argument("--cpus-per-run", dest="cpus", **share)
    of_ray.add_argument("--retries", type=int, help="after a lost worker or node (default: 3)")

    sub = commands.add_parser("table", help="paper, ours, verdict")
    sub.add_argument("what", help="mcmil, mcmil/Sec 5.2, mist/2, an experiment, or 'mcmil/*'")
    sub.add_argument("--out", **records_of)

    sub = commands.add_parser("metrics", help="every metric that was measured, as CSV")
    sub.add_argument("paper", help="the key of a paper, as `list` prints it")
    sub.add_argument("--out", **records_of)

    sub = commands.add_parser("publish", help="copy finished records into the package")
    sub.add_argument("folder", help="the folder that `run` got as --out")
    sub.add_argument(
        "--allow-dirty", action="store_true", help="also take records of uncommitted code"
    )
    sub.add_argument("--to", metavar="DIR", help="instead of the package's results/runs")
    return parser


def answer(args: argparse.Namespace) -> str:
    """Return the output of a command other than `run`."""
    if args.command == "publish":
        target = records.PUBLISHED if args.to is None else Path(args.to)
        return f"new records: {records.publish(Path(args.folder), args.allow_dirty, target)}\n"
    held = records.published()
    if args.out is not None:
        if not Path(args.out).is_dir():
            raise ValueError(f"--out: there is no folder {args.out}.")
        held += records.load(Path(args.out) / "records.jsonl")
    if args.command == "metrics":
        return tables.metrics(args.paper, held)
    if args.command == "table":
        return tables.table(args.what, held)
    if args.state not in (None, *ledger.STATES):
        raise ValueError(f"--state: {args.state!r} is none of {', '.join(ledger.STATES)}.")
    if args.json:
        found = tables.states(held)
        if args.what:
            ids = {row.id for name in args.what for row in tables.select(name)[1]}
            found = [result for result in found if result["id"] in ids]
        found = [result for result in found if args.state in (None, result["state"])]
        return json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    return tables.listing(held, args.what, args.state or "", args.all)


def main(words: list[str] | None = None) -> int:
    """Run a command and return the exit status."""
    started = time.time()  # a budget counts from here
    args = arguments().parse_args(words)
    try:
        if args.command == "run":
            return run(args, started)
        sys.stdout.write(answer(args))
    except (ValueError, OSError) as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:  # before the runs begin, or in another command
        if runner.PARENT not in os.environ:
            say("stopped; nothing is lost, and the same command begins again.")
        return runner.UNFINISHED
    return 0


if __name__ == "__main__":
    sys.exit(main())
