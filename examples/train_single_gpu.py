"""Train on an fsl dataset with the Trainer of transformers, on one GPU or on the CPU.

python examples/train_single_gpu.py                                     the sample and a small random model
python examples/train_single_gpu.py model=internvl3 batch_size=4        a dataset built with fsl.tokenizer=internvl3
python examples/train_single_gpu.py model=internvl3 batch_size=4 resume=true
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import hydra
import torch
from transformers import TrainingArguments

from owa_data import load_from_disk
from owa_data.training.collators import create_fsl_collator
from owa_data.training.models import load_model
from owa_data.training.trainer import ResumingTrainer


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: Any) -> None:
    """Train as the conf says."""
    if cfg.resume and not list(Path(cfg.out_dir).glob("checkpoint-*")):
        sys.exit(
            f"{cfg.out_dir}: resume=true, but no checkpoint-<step> is here. Name the out_dir of the run to go on with, or leave resume out"
        )
    dataset = load_from_disk(cfg.data)["train"].auto_set_transform(stage="fsl", recordings=cfg.recordings)
    loaded = load_model(cfg.data, cfg.model.name, cfg.model.revision, seed=cfg.seed)
    arguments = TrainingArguments(
        output_dir=cfg.out_dir,
        num_train_epochs=cfg.num_epochs,
        per_device_train_batch_size=cfg.batch_size,
        gradient_accumulation_steps=cfg.accumulate,
        learning_rate=cfg.learning_rate,
        max_grad_norm=cfg.max_grad_norm,
        bf16=torch.cuda.is_available(),
        dataloader_num_workers=cfg.num_workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,  # the columns that the collator takes are not those of the model
        logging_steps=cfg.log_every,
        save_steps=cfg.save_every,
        seed=cfg.seed,
        report_to="none",
    )
    trainer = ResumingTrainer(
        model=loaded.model,
        args=arguments,
        train_dataset=dataset,
        data_collator=create_fsl_collator(cfg.data, loaded.processor, loss_on=cfg.loss_on),
        processing_class=loaded.tokenizer,
    )
    trainer.train(resume_from_checkpoint=cfg.resume)
    trainer.save_model()


if __name__ == "__main__":
    main()
