# The tasks' order and artefacts: one papermill job a notebook, below runs/<profile>/.
# Called by `python -m lazyutils.cli run` (see `make book`), which checks every parameter first.
import sys

import yaml

from lazyutils.pipeline import load_profile, modules_of

PROFILE = config["profile"]
PARAMETERS = load_profile(PROFILE, config.get("set", []))
RUN = f"runs/{PROFILE}"
DATA = f"{RUN}/data/colored_mnist.safetensors"
LAZY = f"{RUN}/models/lazycnn.safetensors"
RESNET = f"{RUN}/models/resnet18.safetensors"
ROBUST_BEST = f"{RUN}/models/robust_best.safetensors"
ROBUST_ERM = f"{RUN}/models/robust_erm.safetensors"


def task(name, **upstream):
    """Inputs of a task: its notebook, the lazyutils modules it imports, and earlier artefacts."""
    return {"notebook": f"notebooks/{name}.ipynb", "modules": modules_of(name), **upstream}


def arguments(name):
    """Every parameter of a task as one YAML document for papermill."""
    return yaml.safe_dump({**PARAMETERS[name], "run_dir": RUN}, default_flow_style=True, width=10**6).strip()


PAPERMILL = r"""
export OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads}
rm -f {params.failed}
work=$(mktemp -d {RUN}/.work-XXXXXX)
trap 'rm -rf "$work"' EXIT
echo "{params.name}: started (log: {log})"
if {sys.executable} -m papermill {input.notebook} "$work/out.ipynb" -k python3 -y {params.yaml:q} \
    --no-progress-bar --log-output > {log} 2>&1
then
    mv "$work/out.ipynb" {output.notebook}
    echo "{params.name}: finished in $SECONDS s"
else
    mv "$work/out.ipynb" {params.failed} || true
    tail -n 25 {log}
    echo "{params.name}: FAILED after $SECONDS s; the notebook with its traceback is {params.failed}"
    exit 1
fi
"""


rule all:
    input:
        expand(f"{RUN}/notebooks/{{task}}.ipynb", task=[name for name in PARAMETERS]),


for name, upstream, artefacts in (
    ("task0_biased_canvas", {}, {"data": DATA}),
    ("task1_lazycnn", {"data": DATA}, {"model": LAZY}),
    ("task1_resnet18", {"data": DATA}, {"model": RESNET}),
    ("task4_intervention", {"data": DATA, "lazy": LAZY}, {"best": ROBUST_BEST, "erm": ROBUST_ERM}),
    ("task2_prober", {"data": DATA, "lazy": LAZY, "resnet": RESNET, "robust": ROBUST_BEST}, {}),
    ("task5_invisible_cloak", {"data": DATA, "lazy": LAZY, "erm": ROBUST_ERM, "best": ROBUST_BEST}, {}),
    ("task6_decomposition", {"data": DATA, "lazy": LAZY, "resnet": RESNET, "robust": ROBUST_BEST}, {}),
    ("task3_interrogation", {"data": DATA, "lazy": LAZY, "resnet": RESNET}, {}),
):

    rule:
        name: name
        input: **task(name, **upstream)
        output:
            notebook=update(f"{RUN}/notebooks/{name}.ipynb"),
            results=update(f"{RUN}/results/{name}.json"),
            **{kind: update(path) for kind, path in artefacts.items()},
        log:
            f"{RUN}/logs/{name}.log",
        params:
            name=name,
            failed=f"{RUN}/logs/{name}.ipynb",
            yaml=arguments(name),
        threads: PARAMETERS[name]["threads"]
        shell: PAPERMILL
