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


def task(name, **upstream):
    """Inputs of a task: its notebook, the lazyutils modules it imports, and earlier artefacts."""
    return {"notebook": f"notebooks/{name}.ipynb", "modules": modules_of(name), **upstream}


def arguments(name):
    """Every parameter of a task as one YAML document for papermill."""
    return yaml.safe_dump({**PARAMETERS[name], "run_dir": RUN}, default_flow_style=True, width=10**6).strip()


PAPERMILL = r"""
export OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads}
work=$(mktemp -d {RUN}/.work-XXXXXX)
trap 'rm -rf "$work"' EXIT
echo "{params.name}: started (log: {log.text})"
if {sys.executable} -m papermill {input.notebook} "$work/out.ipynb" -k python3 -y {params.yaml:q} \
    --no-progress-bar --log-output > {log.text} 2>&1
then
    mv "$work/out.ipynb" {output.notebook}
    echo "{params.name}: finished in $SECONDS s"
else
    mv "$work/out.ipynb" {log.notebook} || true
    tail -n 25 {log.text} >&2
    echo "{params.name}: FAILED after $SECONDS s; the notebook with its traceback is {log.notebook}" >&2
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
):

    rule:
        name: name
        input: **task(name, **upstream)
        output:
            notebook=f"{RUN}/notebooks/{name}.ipynb",
            results=f"{RUN}/results/{name}.json",
            **artefacts,
        log:
            text=f"{RUN}/logs/{name}.log",
            notebook=f"{RUN}/logs/{name}.ipynb",
        params:
            name=name,
            yaml=arguments(name),
        threads: 1
        shell: PAPERMILL
