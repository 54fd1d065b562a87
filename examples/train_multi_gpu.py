"""Train on an fsl dataset with Accelerate, on any number of GPUs, or on the CPU.

torchrun --nproc_per_node 8 examples/train_multi_gpu.py model=internvl3 batch_size=4
torchrun --nproc_per_node 2 examples/train_multi_gpu.py                                   the sample and a small random model

The loader shards by rank, and its state goes with each checkpoint: resume=true goes on with the next sample, on another number of GPUs too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import hydra
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

from owa_data import load_from_disk
from owa_data.training.collators import create_fsl_collator
from owa_data.training.loaders import create_loader
from owa_data.training.models import load_model


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: Any) -> None:
    """Train as the conf says."""
    checkpoint = Path(cfg.out_dir) / "checkpoint"
    if cfg.resume and not checkpoint.is_dir():
        sys.exit(f"{checkpoint}: resume=true, but it is not here. Name the out_dir of the run to go on with, or leave resume out")
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="bf16" if torch.cuda.is_available() else "no",
        gradient_accumulation_steps=cfg.accumulate,
        # A batch without images leaves the vision part unused.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    dataset = load_from_disk(cfg.data)["train"].auto_set_transform(stage="fsl", recordings=cfg.recordings)
    loaded = load_model(cfg.data, cfg.model.name, cfg.model.revision, seed=cfg.seed)
    loader = create_loader(
        [dataset],
        batch_size=cfg.batch_size,
        collate=create_fsl_collator(cfg.data, loaded.processor, loss_on=cfg.loss_on),
        seed=cfg.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        num_workers=cfg.num_workers,
        pin_memory=torch.cuda.is_available(),
    )
    model, optimizer = accelerator.prepare(loaded.model, torch.optim.AdamW(loaded.model.parameters(), lr=cfg.learning_rate))
    accelerator.register_for_checkpointing(loader)
    if cfg.resume:
        accelerator.load_state(str(checkpoint))
    step = 0
    for epoch in range(loader.epoch, cfg.num_epochs):
        for batch in loader:
            with accelerator.accumulate(model):
                loss = model(**{name: value.to(accelerator.device, non_blocking=True) for name, value in batch.items()}).loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                step += 1
                if step % cfg.log_every == 0:
                    accelerator.print(f"epoch {epoch} step {step} loss {loss.item():.4f}")
                if step % cfg.save_every == 0:
                    accelerator.save_state(str(checkpoint))
    accelerator.save_state(str(checkpoint))
    if accelerator.is_main_process:
        accelerator.unwrap_model(model).save_pretrained(cfg.out_dir)
        loaded.tokenizer.save_pretrained(cfg.out_dir)


if __name__ == "__main__":
    main()
