"""Checks distill.py, which `nfc export --hf` writes, against `nfc distill`, loss by loss; see docs/huggingface.md.

    python scripts/check-distill.py [--nfc "node bin/nfc.js"] [--only NAME ...]

The fixture is converted to every form, exported, and distilled by both programs with the same settings: same windows,
losses, rates, gradient norms and held-out perplexities in every step. distill.py runs in one process, and in two with
torchrun (gloo), with weights replicated and sharded; killed and resumed; through accelerate, where it is installed.
Needs a build of nfc (npm run build), torch and transformers.
"""
import argparse
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIXTURE, TEXT = HERE / "../fixtures/tiny-gpt2", HERE / "../fixtures/text.txt"
LIBRARY = HERE.parent / "dist/index.js"
# nfc distill, by the library: no flag changes AdamW's epsilon.
TRAIN = """
const [library, student, teacher, data, output, settings] = process.argv.slice(1);
const { openCheckpoint, train } = await import(library);
const models = await Promise.all([student, teacher].map((folder) => openCheckpoint(folder)));
await train(models[0], { teacher: models[1], data: [data], output, settings: JSON.parse(settings) });
for (const model of models) await model.close();
"""
# AdamW divides a gradient by its own size: where that is rounding (a key's bias, which the softmax does not see), both
# programs move by the rate, each in its own direction. With an epsilon of 1e-3 such parameters stay.
BASE = {
    **{"steps": 10, "transferSteps": 4, "batchSize": 2, "accumulate": 2, "length": 32, "evalEvery": 4},
    **{"evalTokens": 600, "noise": "mean", "temperature": 2, "kd": 0.7, "lr": 2e-3, "decay": 0.1, "warmup": 2},
    **{"seed": 7, "epsilon": 1e-3},
}
CASES = {
    "dense, fewer layers": (["--variant", "dense", "--layers", "1"], {"transfer": "hidden"}),
    "symmetric": (["--variant", "symmetric"], {}),
    "symmetric, narrow values": (["--variant", "symmetric", "--vo-rank", "6"], {"transfer": "outputs"}),
    "noise-shared": (["--variant", "noise-shared"], {"clip": 0.1}),
    "noise-per-head": (["--variant", "noise-per-head"], {"train": "attention", "noiseKl": 0.5}),
    "noise-distance": (["--variant", "noise-distance"], {"average": 0.5, "noiseKl": 0.01, "epsilon": 1e-8}),
    "pairwise": (["--variant", "pairwise"], {"transfer": "outputs", "temperature": 1}),
    "low-rank": (["--variant", "low-rank", "--qk-rank", "5", "--vo-rank", "7"], {"transfer": "hidden"}),
    "low-rank, ranks by layer": (["--variant", "low-rank", "--qk-rank", "40%"], {"kd": 1}),
    "fewer tokens": (["--variant", "symmetric", "--vocab-from", str(TEXT), "--vocab-size", "80%"], {"kd": 0}),
}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
ACCELERATE = [
    *[sys.executable, "-m", "accelerate.commands.launch", "--use_fsdp", "--fsdp_version", "2", "--num_processes", "2"],
    *["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"],
]
LIMIT = 1e-4  # of a number: sums in another order came to 8e-6, and to 4e-5 where the loss is a small KL
LEAST_KL = 0.01  # nats: a KL is a difference of log-probabilities, each of which is rounded to 1e-7


def check(name, value, limit):
    print(f"{'ok  ' if value <= limit else 'FAIL'} {name}: {value:.2g} (limit {limit:.2g})", flush=True)
    check.failed |= not value <= limit


check.failed = False


def run(command, fail=False):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if (result.returncode != 0) != fail:
        sys.exit(f"{' '.join(map(str, command))}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
    return result


def read_metrics(folder):
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{**entry.pop("eval", {}), **entry} for entry in entries]


def compare(mine, theirs):
    """The largest relative difference of any number of two runs; infinite where they have other lines."""
    worst = 0
    if [entry.keys() for entry in mine] != [entry.keys() for entry in theirs]:
        return float("inf")
    for a, b in zip(mine, theirs):
        for name in a.keys() - {"seconds", "tokens_per_second"}:
            if isinstance(a[name], (str, int)):
                worst = worst if a[name] == b[name] else float("inf")
            else:
                worst = max(worst, abs(a[name] - b[name]) / max(abs(a[name]), LEAST_KL if name == "kl" else 1e-300))
    return worst


def distill(folder, output, launch=(sys.executable,), more=(), teacher=FIXTURE, fail=False):
    flags = ["--teacher", teacher, "--data", TEXT, "--output", output, "--cpu", *more]
    return run([*launch, folder / "distill.py", *flags], fail)


def perplexity(nfc, folder):
    return json.loads(run([*nfc, "eval", folder, "--text", TEXT, "--json", "--no-record"]).stdout)["perplexity"]


def prepare(nfc, name, work, changes=None):
    """The converted model, its export, and its settings."""
    arguments, own = CASES[name]
    settings, base = {**BASE, **own, **(changes or {})}, work / name.replace(" ", "-").replace(",", "")
    model, folder, file = base / "model", base / "hf", base / "settings.json"
    base.mkdir()
    file.write_text(json.dumps(settings))
    run([*nfc, "convert", FIXTURE, "--calibration", TEXT, *arguments, "-o", model])
    run([*nfc, "export", model, "--hf", "--settings", file, "-o", folder])
    return model, folder, settings


def check_case(nfc, name, work):
    model, folder, settings = prepare(nfc, name, work)
    own = folder.parent / "nfc"
    run(["node", "--input-type=module", "-e", TRAIN, LIBRARY, model, FIXTURE, TEXT, own, json.dumps(settings)])
    expected, quality = read_metrics(own), perplexity(nfc, own)
    launches = {"one process": ([sys.executable], []), "two": (TORCHRUN, []), "two, sharded": (TORCHRUN, ["--fsdp"])}
    for how, (launch, more) in launches.items():
        output = folder.parent / how.replace(" ", "-").replace(",", "")
        distill(folder, output, launch, more)
        check(f"{name}, {how}: {len(expected)} lines of metrics", compare(expected, read_metrics(output)), LIMIT)
        check(f"{name}, {how}: nfc eval of the result", abs(perplexity(nfc, output) / quality - 1), LIMIT)
    return folder, expected


def check_resume(folder, expected):
    """Killed between two checkpoints, in the transfer and in training; goes on with as many processes as it likes."""
    for steps, launch, more in [(3, TORCHRUN, ["--fsdp"]), (7, [sys.executable], ["--gradient-checkpointing"])]:
        output = folder.parent / f"resumed-{steps}"
        metrics = output.with_name(f"{output.name}.run") / "metrics.jsonl"
        flags = ["--teacher", FIXTURE, "--data", TEXT, "--output", output, "--cpu", "--save-every", "2"]
        first = subprocess.Popen([sys.executable, folder / "distill.py", *map(str, flags)], stdout=subprocess.DEVNULL)
        while first.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= steps):
            time.sleep(0.001)
        first.kill()
        first.wait()
        if output.exists():
            print(f"skipped: the run ended before it was killed after step {steps}")
            continue
        distill(folder, output, launch, [*more, "--resume"])
        check(f"killed after step {steps} and resumed: metrics", compare(expected, read_metrics(output)), LIMIT)


def check_refusals(folder, work):
    file, changed = folder / "distill.json", work / "changed.json"
    settings = json.loads(file.read_text())
    precious = work / "precious"
    precious.mkdir()
    for name in ("config.json", "thesis.tex"):
        (precious / name).write_text("{}")
    pickled = work / "pickled"
    pickled.mkdir()
    shutil.copy(FIXTURE / "config.json", pickled)
    (pickled / "pytorch_model.bin").write_bytes(b"not read")
    wrong = {**settings, "settings": {**settings["settings"], "lr": "fast"}}
    for name, more, teacher in [
        ("a wrong setting", ["--settings", changed], FIXTURE),
        ("a teacher of pickles", [], pickled),
        ("no teacher", [], work / "nothing"),
        ("no text", ["--data", work / "nothing.txt"], FIXTURE),
        ("an output that is the student", ["--output", folder], FIXTURE),
        ("an output with a file of somebody's", ["--output", precious, "--force"], FIXTURE),
    ]:
        changed.write_text(json.dumps(wrong))
        result = distill(folder, work / "refused", more=more, teacher=teacher, fail=True)
        left = [path for path in work.glob("*refused*")]
        lines = result.stderr.strip().splitlines()
        check(f"{name} ({lines[0]}): exit code, distance from 2", abs(result.returncode - 2), 0)
        check(f"{name}: lines beside the fact and what to do, and files", abs(len(lines) - 2) + len(left), 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nfc", default=f"node {HERE / '../bin/nfc.js'}")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    flags = parser.parse_args()
    nfc = shlex.split(flags.nfc)
    os.environ.update(OMP_NUM_THREADS="1", TRANSFORMERS_VERBOSITY="error", NO_COLOR="1")
    work = Path(tempfile.mkdtemp(prefix="check-distill-"))
    try:
        for name in flags.only:
            folder, expected = check_case(nfc, name, work)
        check_resume(folder, expected)
        check_refusals(folder, work)
        if importlib.util.find_spec("accelerate"):
            distill(folder, work / "accelerated", ACCELERATE)
            check("accelerate with FSDP: metrics", compare(expected, read_metrics(work / "accelerated")), LIMIT)
        else:
            print("skipped: accelerate is not installed")
        if "noise-distance" in flags.only:
            shutil.rmtree(work / "noise-distance")
            drawn = {"noise": "sample", "steps": 60, "evalEvery": 20, "average": 0}
            _, folder, _ = prepare(nfc, "noise-distance", work, drawn)
            distill(folder, work / "drawn", TORCHRUN, ["--bf16"])
            share = perplexity(nfc, work / "drawn") / perplexity(nfc, folder)
            check("noise-distance, drawn, bfloat16: perplexity, share of before", share, 0.95)
    finally:
        shutil.rmtree(work)
    sys.exit(1 if check.failed else 0)


if __name__ == "__main__":
    main()
