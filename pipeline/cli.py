"""The command line: every verb, and nothing that a verb does.

Settings are read here, once. Each verb imports what it needs when it runs, so that `--help` and
`config` stay quick and a base install without an engine has them.
"""

import argparse
import errno
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.stages.errors import SetupError

if TYPE_CHECKING:
    from headstart.configs.settings import Settings

__all__ = ["main"]

BENCHMARKS = (
    "browser",
    "decode",
    "decode-exact",
    "decode-plumbing",
    "decode-speed",
    "journey",
    "language",
    "live",
    "livemind",
    "messaging",
    "overhead",
    "quic-cost",
    "reliability",
    "soak",
    "transport",
    "transport-simulator",
    "transport-sockets",
)

RESULTS = ("consistency", "decoding", "drafters", "journey", "transport")

RECIPES = ("consistency", "drafter")

Verb = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns: The exit status: 0; 1 where a check failed; 2 where the settings or the machine do not
        allow the command, with one line for each fault on standard error; 130 after Ctrl-C; 141
        where nobody reads the output any more.
    """
    args = _parser().parse_args(argv)
    run: Verb = args.run
    try:
        status = run(args)
        sys.stdout.flush()
    except SetupError as error:
        return _refuse(error.message)
    except ModuleNotFoundError as error:
        package = (error.name or "headstart").partition(".")[0]
        if package == "headstart":
            raise
        ways = " or ".join(f"`pip install 'headstart[{extras}]'`" for extras in args.extras)
        return _refuse(f"{package} is not installed: run {ways}")
    except BrokenPipeError:
        _leave_output()
        return 141
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _leave_output()
        return _refuse(f"the output cannot be written: {error.strerror}")
    except KeyboardInterrupt:
        return 130
    return status


def _refuse(why: str) -> int:
    for fault in why.splitlines():
        print(f"error: {fault}", file=sys.stderr)
    return 2


def _leave_output() -> None:
    """Let what Python still holds for standard output go nowhere: it would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _serve(args: argparse.Namespace) -> int:
    settings = _settings(args)
    from headstart.pipeline.daemon import serve

    return serve(settings, announce=lambda line: print(line, flush=True))


def _gateway(_args: argparse.Namespace) -> int:
    from headstart.pipeline.gateway import run_child

    return run_child()


def _config(args: argparse.Namespace) -> int:
    if args.form == "settings":
        import yaml

        tree = _settings(args).model_dump(mode="json")
        print(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), end="")
        return 0
    from headstart.configs import reference

    if args.form == "table":
        print(reference.table(), end="")
    else:
        print(json.dumps(reference.schema(), indent=2, ensure_ascii=False))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from headstart.pipeline import doctor
    from headstart.pipeline.machine import probe

    settings, faults = None, []
    try:
        settings = _settings(args)
    except SetupError as error:
        faults = doctor.of_settings(error)
    findings = [*faults, *doctor.examine(probe(settings), settings)]
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        print(doctor.report(findings))
    return 1 if any(one.verdict is doctor.Verdict.PROBLEM for one in findings) else 0


def _model_prepare(args: argparse.Namespace) -> int:
    settings = _settings(args)
    from headstart.cluster.prepared_model import prepared

    for pool in settings.pools:
        if pool.engine == "vllm":
            found, folder = prepared(pool, settings.cache_dir)
            print(f"{pool.name}: {folder if found.drafter is None else found.drafter.source}")
    return 0


def _keys_new(args: argparse.Namespace) -> int:
    """Print the entry on standard output, for a file, and the key on standard error, once."""
    import secrets

    import yaml
    from pydantic import ValidationError

    from headstart.configs.access import KeySettings
    from headstart.configs.section import explain
    from headstart.stages.access import hash_of

    key = f"hs-{secrets.token_urlsafe(32)}"
    given = {name: getattr(args, name) for name in KeySettings.model_fields if name != "hash"}
    entry = {name: value for name, value in given.items() if value is not None}
    try:
        KeySettings.model_validate(entry | {"hash": hash_of(key)})
    except ValidationError as error:
        raise SetupError(str(explain(error, KeySettings))) from error
    print(yaml.safe_dump([entry | {"hash": hash_of(key)}], sort_keys=False), end="")
    print(f"{key}\n(shown this once; the entry above goes under access.keys)", file=sys.stderr)
    return 0


def _bench(args: argparse.Namespace) -> int:
    settings = _settings(args)
    from headstart.benchmarks.options import BenchOptions

    options = BenchOptions(
        json_path=args.json, is_quick=args.quick, data_dir=args.data or settings.bench.data_dir
    )
    module = importlib.import_module(f"headstart.benchmarks.{args.name.replace('-', '_')}")
    status: int = module.run(settings, options)
    return status


def _results(args: argparse.Namespace) -> int:
    module = importlib.import_module(f"headstart.benchmarks.results_{args.name}")
    try:
        status: int = module.run(args.source, args.to)
    except OSError as error:
        if error.filename is None:  # of the output
            raise
        raise SetupError(f"{error.filename}: {error.strerror}: give another --to") from error
    return status


def _table(args: argparse.Namespace) -> int:
    settings = _settings(args)
    import httpx

    from headstart.pipeline.daemon import url_of
    from headstart.recipes.ngram_tables import make
    from headstart.recipes.samples import write_file

    gateway = settings.gateway
    url = args.url or url_of(settings, gateway.host, gateway.port)
    headers = {"authorization": f"Bearer {args.key}"} if args.key else {}
    if args.out.is_dir() or not os.access(args.out.parent, os.W_OK):
        raise SetupError(f"{args.out} cannot be written: name a file in a folder that is there")
    with httpx.Client(base_url=url, headers=headers) as client:
        table = make(settings, args.model, args.language, args.prompts, client)
    write_file(args.out, table.encode())
    print(f"{args.out}: {len(table.followers)} contexts")
    return 0


def _recipe(args: argparse.Namespace) -> int:
    module = importlib.import_module(f"headstart.recipes.{args.name}")
    status: int = module.main(args.rest)
    return status


def _dashboards(args: argparse.Namespace) -> int:
    from headstart.monitoring.dashboards import stale, write

    folder: Path = args.folder or _packaged("monitoring", "dashboards")
    if args.task == "write":
        try:
            write(folder)
        except OSError as error:
            raise SetupError(f"{folder}: cannot be written: {error.strerror}") from error
        return 0
    names = stale(folder)
    for name in names:
        print(f"{folder / name} is stale: run headstart dashboards --write", file=sys.stderr)
    return 1 if names else 0


def _settings(args: argparse.Namespace) -> "Settings":
    """Load the settings that the verb's flags ask for.

    Raises:
        SetupError: They cannot be used; the message names each key at fault.
    """
    from headstart.configs.settings import SettingsError, load

    try:
        return load(args.config or _packaged("configs", "laptop.yaml"), args.overrides)
    except SettingsError as error:
        raise SetupError(str(error), param=error.key) from error


def _packaged(package: str, name: str) -> Path:
    """Return the path of a file or folder that is installed with Headstart."""
    return Path(str(resources.files(f"headstart.{package}") / name))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headstart", description="A latency layer for serving large language models."
    )
    parser.set_defaults(extras=("cpu", "gpu"))
    parser.add_argument(
        "--version", action="version", version=f"headstart {metadata.version('headstart')}"
    )
    # The metavar keeps `gateway`, which only the daemon runs, out of the help.
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    settings = _settings_flags()

    serve = verbs.add_parser("serve", parents=[settings], help="serve the models until Ctrl-C")
    serve.set_defaults(run=_serve)

    config = verbs.add_parser("config", parents=[settings], help="print the settings in effect")
    form = config.add_mutually_exclusive_group()
    form.add_argument(
        "--table", dest="form", action="store_const", const="table", help="print docs/settings.md"
    )
    form.add_argument(
        "--schema", dest="form", action="store_const", const="schema", help="print the JSON schema"
    )
    config.set_defaults(run=_config, form="settings")

    doctor = verbs.add_parser(
        "doctor", parents=[settings], help="say what of this machine does not fit the settings"
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(run=_doctor)

    model = verbs.add_parser("model", help="fetch and unpack the models")
    actions = model.add_subparsers(required=True, metavar="ACTION")
    prepare = actions.add_parser("prepare", parents=[settings], help="fill the cache and stop")
    prepare.set_defaults(run=_model_prepare)

    keys = verbs.add_parser("keys", help="make API keys")
    made = keys.add_subparsers(required=True, metavar="ACTION").add_parser(
        "new", help="make a key: its entry goes to standard output, the key to standard error"
    )
    made.add_argument("id", metavar="ID", help="its name in logs")
    made.add_argument("--models", nargs="+", metavar="MODEL", help="all it may use (default: all)")
    made.add_argument(
        "--live", action="store_const", const=True, help="may send prompts as they are typed"
    )
    for limit in (
        "max-concurrent",
        "requests-per-minute",
        "tokens-per-minute",
        "live-tokens-per-minute",
        "thinking-tokens-per-minute",
    ):
        made.add_argument(f"--{limit}", type=int, metavar="N", help="(default: no limit)")
    made.set_defaults(run=_keys_new)

    bench = verbs.add_parser("bench", parents=[settings], help="measure one claim")
    bench.add_argument("name", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    bench.add_argument(
        "--json", type=Path, required=True, metavar="OUT", help="where the result goes"
    )
    bench.add_argument("--quick", action="store_true", help="end within 8 minutes, deciding less")
    bench.add_argument("--data", type=Path, metavar="DIR", help="public data sets (bench.data_dir)")
    bench.set_defaults(run=_bench)

    results = verbs.add_parser("results", help="make a page of results from benchmarks' JSON")
    results.add_argument("name", choices=RESULTS, metavar="NAME", help=", ".join(RESULTS))
    results.add_argument(
        "--from", dest="source", type=Path, required=True, metavar="DIR", help="where the JSON is"
    )
    results.add_argument(
        "--to",
        type=Path,
        default=Path("docs/results"),
        metavar="DIR",
        help="(default: %(default)s)",
    )
    results.set_defaults(run=_results, extras=("dev",))

    table = verbs.add_parser(
        "table", parents=[settings], help="make a language drafter from a running model's answers"
    )
    table.add_argument("--language", required=True, metavar="TAG", help="such as `de`")
    table.add_argument(
        "--prompts", type=Path, required=True, metavar="FILE", help="in that language, one a line"
    )
    table.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table")
    table.add_argument("--model", metavar="NAME", help="who answers (default: the first)")
    table.add_argument("--url", help="of the running server (default: as the settings have it)")
    table.add_argument("--key", metavar="KEY", help="API key, where the server wants one")
    table.set_defaults(run=_table)

    recipe = verbs.add_parser(
        "recipe", help="train weights that decode several tokens a step, or drafters"
    )
    recipe.add_argument("name", choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    recipe.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="(see NAME --help)")
    recipe.set_defaults(run=_recipe, extras=("recipes",))

    dashboards = verbs.add_parser("dashboards", help="make the Grafana dashboards from code")
    task = dashboards.add_mutually_exclusive_group(required=True)
    for verb, meaning in (("write", "write their JSON"), ("check", "fail if their JSON is stale")):
        task.add_argument(f"--{verb}", dest="task", action="store_const", const=verb, help=meaning)
    dashboards.add_argument(
        "--folder", type=Path, metavar="DIR", help="where it is (default: monitoring/dashboards)"
    )
    dashboards.set_defaults(run=_dashboards, extras=("dev,server",))

    verbs.add_parser("gateway").set_defaults(run=_gateway)
    return parser


def _settings_flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument(
        "--config", type=Path, metavar="FILE", help="settings (default: the laptop profile)"
    )
    flags.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="override one setting, such as gateway.port=8001; may be repeated",
    )
    return flags
