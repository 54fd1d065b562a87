"""Embeddings of event tokens: room for all ids, rows near the meaning, on small random models of real architectures."""

from __future__ import annotations

import pytest

from owa_data.encoding.registry import create_encoder
from owa_data.errors import TokenizerError
from owa_data.fsl.saved_tokenizer import FOLDER
from owa_data.fsl.tokenizer import load_tokenizer
from owa_data.fsl.vocabulary import save_tokenizer
from owa_data.store.shard_cache import ShardCache
from tests.fsl.test_tokenizer import BYTE

torch = pytest.importorskip("torch")

from owa_data.training.prepare_model import describe_token, event_tokens, prepare_model  # noqa: E402

NUM_BYTE_ENTRIES = 260


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("dataset")
    save_tokenizer(folder, load_tokenizer(BYTE), create_encoder("factorized"), ShardCache(folder / "cache"))
    return AutoTokenizer.from_pretrained(folder / FOLDER)


def llama(num_tokens: int, *, tied: bool = False):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=num_tokens,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=tied,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def internvl(num_tokens: int):
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"model_type": "qwen2", "vocab_size": num_tokens, "num_key_value_heads": 2, "pad_token_id": 0, **size}
    config = InternVLConfig(
        text_config=text, vision_config={**size, "image_size": [32, 32], "patch_size": [16, 16]}, image_token_id=3
    )
    return InternVLForConditionalGeneration(config)


def mean_of(weight, tokenizer, text: str):
    return weight[tokenizer(text, add_special_tokens=False)["input_ids"]].mean(dim=0)


@pytest.mark.parametrize(
    ("token", "meaning"),
    [
        ("<VK_87>", "key w"),
        ("<VK_160>", "key left shift"),
        ("<VK_7>", "key vk 7"),
        ("<MB_15>", "mouse button flags 15"),
        ("<255>", "255"),
        ("<press>", "press"),
        ("<SIGN_MINUS>", "sign minus"),
        ("<EVENT_END>", "event end"),
        ("<IMG_CONTEXT>", "img context"),
        ("<|image_pad|>", "image pad"),
    ],
)
def test_tokens_are_described_in_words(token: str, meaning: str) -> None:
    assert describe_token(token) == meaning


@pytest.mark.parametrize("create", [llama, internvl])
def test_new_rows_begin_near_their_meaning_and_the_others_stay(create, tokenizer) -> None:
    model = create(NUM_BYTE_ENTRIES)
    before = model.get_input_embeddings().weight.detach().clone()
    head = model.get_output_embeddings().weight.detach().clone()
    begun = prepare_model(model, tokenizer)
    assert sorted(begun) == sorted(create_encoder("factorized").vocabulary)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) == NUM_BYTE_ENTRIES + 291
    for layer, old in ((model.get_input_embeddings(), before), (model.get_output_embeddings(), head)):
        weight = layer.weight.detach()
        assert torch.equal(weight[:NUM_BYTE_ENTRIES], old)
        for token, text in (("<VK_87>", "key w"), ("<press>", "press"), ("<7>", "7")):
            row = weight[tokenizer.convert_tokens_to_ids(token)]
            assert torch.cosine_similarity(row, mean_of(old, tokenizer, text), dim=0) > 0.98
        assert len(torch.unique(weight[NUM_BYTE_ENTRIES:], dim=0)) == 291
    ids = tokenizer("<EVENT_START><KEYBOARD><1><2><3><VK_87><press><EVENT_END>", return_tensors="pt")["input_ids"]
    assert model(input_ids=ids).logits.shape[-1] == len(tokenizer)


def test_it_is_deterministic_and_leaves_random_numbers_alone(tokenizer) -> None:
    first, second = llama(NUM_BYTE_ENTRIES), llama(NUM_BYTE_ENTRIES)
    prepare_model(first, tokenizer)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    prepare_model(second, tokenizer)
    assert torch.equal(first.get_input_embeddings().weight, second.get_input_embeddings().weight)
    torch.set_rng_state(state)


def test_tied_embeddings_stay_tied(tokenizer) -> None:
    model = llama(NUM_BYTE_ENTRIES, tied=True)
    prepare_model(model, tokenizer)
    assert model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()


def test_a_model_with_spare_rows_keeps_its_size_and_its_event_tokens_begin_anew(tokenizer) -> None:
    model = llama(1024)
    before = model.get_input_embeddings().weight.detach().clone()
    prepare_model(model, tokenizer)
    weight = model.get_input_embeddings().weight
    assert weight.shape[0] == 1024
    key = tokenizer.convert_tokens_to_ids("<VK_87>")
    assert not torch.equal(weight[key], before[key])
    assert torch.equal(weight[600:], before[600:])


def test_a_model_that_knows_the_tokens_is_left_alone(tokenizer) -> None:
    model = llama(len(tokenizer))
    before = model.get_input_embeddings().weight.detach().clone()
    assert prepare_model(model, tokenizer, []) == []
    assert torch.equal(model.get_input_embeddings().weight, before)
    with pytest.raises(TokenizerError, match="no token '<nothing>'"):
        prepare_model(model, tokenizer, ["<nothing>"])
    assert len(event_tokens(tokenizer)) == 291
