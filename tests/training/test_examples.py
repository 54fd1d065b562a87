"""The example programs, run as a user runs them: trained, stopped, resumed; on one process and on two."""

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import torch

from owa_data.training.trainer import ResumingTrainer
from tests.conftest import ROOT

LIMIT_S = 300


def run(built, out_dir, *command, status=0):
    settings = [f"data={built.fsl}", f"recordings={built.recordings}", f"out_dir={out_dir}", "num_workers=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    result = subprocess.run(
        [sys.executable, *command, *settings],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert result.returncode == status, result.stdout
    return result.stdout


@pytest.mark.slow
def test_single(internvl_built, tmp_path):
    out_dir = tmp_path / "single"
    program = ("examples/train_single_gpu.py", "batch_size=2", "learning_rate=1e-3")
    losses = r"'loss': '?([0-9.]+)"
    first = [float(loss) for loss in re.findall(losses, run(internvl_built, out_dir, *program))]
    assert len(first) >= 4
    output = run(internvl_built, out_dir, *program, "num_epochs=2", "resume=true")
    resumed = [float(loss) for loss in re.findall(losses, output)]
    assert "missing keys" not in output
    assert len(resumed) == len(first)
    # A model that began anew would begin at the loss of the first step.
    assert resumed[0] < first[0] - 0.3
    assert (out_dir / "model.safetensors").is_file()
    assert (out_dir / "tokenizer.json").is_file()


@pytest.mark.slow
def test_multi(internvl_built, tmp_path):
    out_dir = tmp_path / "multi"
    program = ("examples/train_multi_gpu.py", "learning_rate=1e-3")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node")
    steps = r"epoch (\d) step \d+ loss ([0-9.]+)"
    first = re.findall(steps, run(internvl_built, out_dir, *torchrun, "2", *program))
    num_steps = len(first)
    assert num_steps >= 2
    # The second epoch on one process: the state of the loader fits any number.
    resumed = re.findall(steps, run(internvl_built, out_dir, *program, "num_epochs=2", "resume=true", "accumulate=2"))
    assert {epoch for epoch, _ in resumed} == {"1"}
    assert len(resumed) == num_steps
    assert float(resumed[0][1]) < float(first[0][1]) - 0.3
    assert (out_dir / "checkpoint/custom_checkpoint_0.pkl").is_file()
    assert (out_dir / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("program", "missing"), [("train_single_gpu.py", "no checkpoint-<step> is here"), ("train_multi_gpu.py", "it is not here")]
)
def test_resume_without_a_checkpoint_is_told_in_one_line(internvl_built, tmp_path, program, missing):
    output = run(internvl_built, tmp_path / "out", f"examples/{program}", "resume=true", status=1)
    assert f"resume=true, but {missing}. Name the out_dir" in output
    assert "Traceback" not in output


def test_the_trainer_finds_its_weights_again(internvl_built, tmp_path):
    from transformers import Trainer, TrainingArguments

    from owa_data.training.models import load_model

    saved = load_model(internvl_built.fsl, seed=1).model
    saved.save_pretrained(tmp_path)
    arguments = TrainingArguments(output_dir=str(tmp_path / "out"), report_to="none", use_cpu=True)

    def differs(trainer_class):
        model = load_model(internvl_built.fsl, seed=2).model
        trainer_class(model=model, args=arguments)._load_from_checkpoint(str(tmp_path))
        pairs = zip(model.state_dict().values(), saved.state_dict().values(), strict=True)
        return any(not torch.equal(one, other) for one, other in pairs)

    assert not differs(ResumingTrainer)
    # When this fails, Trainer has learned it: use Trainer and delete ResumingTrainer.
    assert differs(Trainer)
