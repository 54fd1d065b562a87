"""The two loops that users of binned OWA datasets know: a DataLoader with a collate function, and transformers.Trainer."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from owa_data import create_binned_dataset_transform, load_from_disk
from owa_data.errors import ParamsError, SchemaError
from owa_data.training.collators import BinnedCollator, checked_image_processor
from owa_data.training.image_tokens import read_image_tokens
from owa_data.training.models import load_model


def binned(built, encoder_type="factorized"):
    dataset = load_from_disk(built.binned)["train"]
    transform = create_binned_dataset_transform(
        encoder_type=encoder_type, instruction="Complete the task", recordings=str(built.recordings), image_size_px=(56, 56)
    )
    dataset.set_transform(transform)
    return dataset


def collator_of(built, loaded, encoder_type="factorized", **options):
    image_processor = checked_image_processor(built.fsl, loaded.processor)
    return BinnedCollator(read_image_tokens(built.fsl), image_processor, loaded.tokenizer, encoder_type, **options)


def test_dataloader_with_a_collate_function(internvl_built):
    dataset = binned(internvl_built)

    def collate_fn(examples):
        return {
            "images": [example["images"] for example in examples],
            "encoded_events": [example["encoded_events"] for example in examples],
            "instruction": [example["instruction"] for example in examples],
        }

    loader = torch.utils.data.DataLoader(dataset, batch_size=4, shuffle=True, num_workers=1, collate_fn=collate_fn)
    num_rows = num_events = 0
    for batch in loader:
        assert set(batch["instruction"]) == {"Complete the task"}
        assert all(image.size == (56, 56) for images in batch["images"] for image in images)
        num_rows += len(batch["images"])
        num_events += sum(map(len, batch["encoded_events"]))
    assert num_rows == len(dataset)
    assert num_events == sum(len(row["actions"]) for row in load_from_disk(internvl_built.binned)["train"])


@pytest.mark.parametrize("family", ["internvl", "smolvlm"])
def test_collator_of_bins(request, family):
    built = request.getfixturevalue(f"{family}_built")
    loaded = load_model(built.fsl)
    samples = [binned(built)[index] for index in (0, 5, 9)]
    batch = collator_of(built, loaded)(samples)
    for row, sample in enumerate(samples):
        length = int(batch["attention_mask"][row].sum())
        text = loaded.tokenizer.decode(batch["input_ids"][row, :length])
        answer = loaded.tokenizer.decode(batch["labels"][row][batch["labels"][row] >= 0])
        assert answer == "".join(sample["encoded_events"]) + "<|endoftext|>"
        assert text.endswith(f"Complete the task\n{answer}")
        assert (batch["input_ids"][row, length:] == loaded.tokenizer.pad_token_id).all()
    assert loaded.model(**batch).loss.item() > 0
    with pytest.raises(ParamsError, match="is 8, a sample has"):
        collator_of(built, loaded, max_sequence_length=8)(samples)
    token = loaded.tokenizer.decode([read_image_tokens(built.fsl).image_token_id])
    with pytest.raises(SchemaError, match="keep image tokens out of instructions"):
        collator_of(built, loaded)([{**samples[0], "instruction": f"look at {token}"}])


def test_events_of_the_flat_encoding_are_set_apart(internvl_built):
    loaded = load_model(internvl_built.fsl)
    rows = binned(internvl_built, "flat")
    sample = next(row for row in (rows[index] for index in range(len(rows))) if len(row["encoded_events"]) > 1)
    batch = collator_of(internvl_built, loaded, "flat")([sample])
    answer = loaded.tokenizer.decode(batch["labels"][0][batch["labels"][0] >= 0])
    assert answer == " ".join(sample["encoded_events"]) + "<|endoftext|>"
    with pytest.raises(ParamsError, match=r"collator\.encoder_type: is 'hierarchical', but a sample is of 'flat'"):
        collator_of(internvl_built, loaded, "hierarchical")([sample])
    with pytest.raises(ParamsError, match=r"collator\.encoder_type: 'plain' is not known"):
        collator_of(internvl_built, loaded, "plain")


def test_trainer(internvl_built, tmp_path):
    from transformers import Trainer, TrainingArguments

    loaded = load_model(internvl_built.fsl)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        max_steps=3,
        learning_rate=1e-3,
        remove_unused_columns=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=loaded.model,
        args=arguments,
        train_dataset=binned(internvl_built),
        data_collator=collator_of(internvl_built, loaded),
        processing_class=loaded.tokenizer,
    )
    losses = [entry["loss"] for entry in (trainer.train(), trainer.state.log_history)[1] if "loss" in entry]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
