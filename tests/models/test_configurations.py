"""Nothing in the configuration of a model from outside decides how the study computes: it is
honoured exactly, or refused."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from miniatures import FAMILIES, SHAPE, built, model, tokenizer, unpack
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from studylib.core.errors import StudyError
from studylib.data import packing
from studylib.evaluation import generate
from studylib.evaluation.answers import clean
from studylib.models import configurations, loading, parts

# What changes nothing: the model is the one that its weights say.
IGNORED = {
    "eager attention": {"attn_implementation": "eager"},
    "eager attention by its inner name": {"_attn_implementation": "eager"},
    "eager attention by its innermost name": {"_attn_implementation_internal": "eager"},
    "eager attention in a mapping": {"attn_implementation": {"": "eager"}},
    "attention that is not installed": {"attn_implementation": "flash_attention_2"},
    "flexible attention": {"attn_implementation": "flex_attention"},
    "attention of a server": {"attn_implementation": "paged|eager"},
    "attention of a part": {"text_config": {"attn_implementation": "eager", "sliding_window": 8}},
    "an implementation of experts": {"experts_implementation": "grouped_mm"},
    "attentions shown": {"output_attentions": True},
    "hidden states shown": {"output_hidden_states": True},
    "hidden states before the last norm": {"tie_last_hidden_states": False},
    "tuples": {"return_dict": False},
    "no cache": {"use_cache": False, "cache_implementation": "static"},
    "half precision": {"dtype": "bfloat16"},
    "half precision by its old name": {"torch_dtype": "float16"},
    "dropout": {"attention_dropout": 0.5, "hidden_dropout": 0.5, "attn_pdrop": 0.5},
    "checkpointed gradients": {"gradient_checkpointing": True},
    "feed-forward in chunks": {"chunk_size_feed_forward": 2},
    "padding without a gradient": {"pad_token_id": 5},
    "settings of generation": {
        "temperature": 0.1,
        "num_beams": 3,
        "repetition_penalty": 5.0,
        "max_length": 3,
    },
    "an encoder": {"is_encoder_decoder": False, "is_decoder": True},
    "other names of fields": {"attribute_map": {}},
    "a window that is longer than all rows": {
        "sliding_window": 512,
        "use_sliding_window": True,
        "max_window_layers": 0,
        "layer_types": None,
    },
    "all layers full": {"layer_types": ["full_attention"] * 4},
}
REFUSED = {
    "a sliding window": (
        {
            "sliding_window": 8,
            "use_sliding_window": True,
            "max_window_layers": 2,
            "layer_types": None,
        },
        r"`(sliding_window: 8|layer_types: sliding_attention)`",
    ),
    "layers that slide": (
        {
            "layer_types": ["full_attention", "sliding_attention"] * 2,
            "sliding_window": 8,
            "use_sliding_window": True,
        },
        "`layer_types: sliding_attention`",
    ),
    "layers in chunks": (
        {"layer_types": ["chunked_attention"] * 4, "attention_chunk_size": 8},
        "`layer_types: chunked_attention`",
    ),
    "layers without attention": (
        {"layer_types": ["linear_attention"] * 4},
        "`layer_types: linear_attention`",
    ),
    "attention both ways": ({"is_causal": False}, "`is_causal: false`"),
    "layers of unlike widths": (
        {"per_layer_config": {"1": {"intermediate_size": 16}}},
        "`per_layer_config`",
    ),
    "positions by the longest row": (
        {
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "factor": 2.0,
                "original_max_position_embeddings": 64,
                "short_factor": [1.0] * 4,
                "long_factor": [2.0] * 4,
            }
        },
        "`rope_type: longrope`",
    ),
    "quantised weights": (
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
        "its weights are quantised",
    ),
}
# What the weights are multiplied by, honoured exactly.
HONOURED = {
    "positions stretched": (
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
        FAMILIES,
    ),
    "positions as in Llama 3": (
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
        FAMILIES,
    ),
    "positions by YaRN": (
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 128,
            }
        },
        FAMILIES,
    ),
    "positions that grow beyond what is read": (
        {
            "rope_parameters": {
                "rope_type": "dynamic",
                "rope_theta": 1e4,
                "factor": 4.0,
                "partial_rotary_factor": 1.0,
            }
        },
        FAMILIES,
    ),
    "heads of another width": ({"head_dim": 16}, ("llama", "qwen2")),
    "biases": ({"attention_bias": True, "mlp_bias": True}, ("llama",)),
    "no biases": ({"attention_bias": False}, ("gpt_neox",)),
    "residuals in a row": ({"use_parallel_residual": False}, ("gpt_neox",)),
    "a part of the width turned": (
        {
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e3,
                "partial_rotary_factor": 0.5,
            }
        },
        ("gpt_neox",),
    ),
    "another activation and small numbers": (
        {"hidden_act": "relu", "rms_norm_eps": 1e-2, "layer_norm_eps": 1e-2},
        FAMILIES,
    ),
    "one matrix of embeddings": ({"tie_word_embeddings": True}, FAMILIES),
}


def configured(folder: Path, **values: object) -> None:
    known = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(known | values), encoding="utf-8")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each family."""
    place = tmp_path_factory.mktemp("sound")
    for family in FAMILIES:
        loading.save(model(family), tokenizer(), place / family)
    return place


@torch.no_grad()
def check_computes_as(folder: Path, reference: torch.nn.Module) -> None:
    """A loaded folder gives, packed, the hidden states and answers that `reference` gives one
    question a row, without any mask."""
    net, words = loading.load(f"path:{folder}")
    prompts = built("zero-shot", 1)[:2]
    packed = packing.collate([packing.pack(prompt) for prompt in prompts])
    states = parts.hidden_states(net, packed).flatten(0, 1)[packed.answers.at]
    rows = [row for prompt in prompts for row in unpack(prompt)]
    plain = [
        reference.base_model(input_ids=torch.tensor([row.ids])).last_hidden_state[0, row.answers.at]
        for row in rows
    ]
    torch.testing.assert_close(states, torch.cat(plain), rtol=1e-4, atol=1e-5)
    assert torch.equal(parts.layer_states(net, packed)[-1], parts.hidden_states(net, packed))
    answers = generate.answer(net, words, prompts, longest=5)
    for answer, row in zip(answers, rows, strict=True):
        ids = torch.tensor([row.ids[: row.answers.at[0] + 1]])
        generated = net.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=5)
        assert answer.margin < 1e-3 or answer.text == clean(
            words.decode(generated[0, ids.shape[1] :], skip_special_tokens=True)
        )


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("what", IGNORED)
def test_what_says_nothing_of_the_weights_changes_nothing(
    what: str, family: str, sound: Path, tmp_path: Path
):
    folder = shutil.copytree(sound / family, tmp_path / family)
    configured(folder, **IGNORED[what])
    check_computes_as(folder, model(family))
    net, _ = loading.load(f"path:{folder}")
    assert net.config._attn_implementation == "sdpa" and {
        weight.dtype for weight in net.parameters()
    } == {torch.float32}
    plain = loading.config(f"path:{folder}").to_dict()
    assert plain == loading.config(f"path:{sound / family}").to_dict()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("what", REFUSED)
def test_what_would_need_another_mask_or_other_weights_is_refused(
    what: str, family: str, sound: Path, tmp_path: Path
):
    folder = shutil.copytree(sound / family, tmp_path / family)
    values, message = REFUSED[what]
    configured(folder, **values)
    for read in (loading.load, loading.config, loading.check_weights):
        with pytest.raises(StudyError, match=rf"{folder}: its configuration says .*{message}"):
            read(f"path:{folder}")


@pytest.mark.parametrize(
    ("what", "family"),
    [(what, family) for what, (_, families) in HONOURED.items() for family in families],
)
def test_the_arithmetic_of_the_weights_is_honoured(what: str, family: str, tmp_path: Path):
    """Against transformers' own reading of the same folder."""
    loading.save(model(family, **deepcopy(HONOURED[what][0])), tokenizer(), tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation="sdpa", dtype=torch.float32, local_files_only=True
    )
    check_computes_as(tmp_path, plain.eval())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plain_configuration_stays_as_it_is(family: str):
    """But for what says nothing of the weights: a saved student is read as it was trained."""
    config = model(family, **{"max_position_embeddings": 64}).config
    plain = configurations.plain(config, "it")
    kept = {key: value for key, value in config.to_dict().items() if key in configurations.SHAPE}
    assert kept == {key: plain.to_dict()[key] for key in kept} and set(SHAPE) < set(kept)
    assert configurations.plain(plain, "it").to_dict() == plain.to_dict()


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.1, "do_sample": False},
        {"num_beams": 4, "repetition_penalty": 9.0},
        {"max_length": 1},
    ],
)
def test_settings_of_generation_that_came_with_a_model_are_left_out(
    settings: dict, sound: Path, tmp_path: Path
):
    folder = shutil.copytree(sound / "llama", tmp_path / "llama")
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    check_computes_as(folder, model("llama"))
    net, words = loading.load(f"path:{folder}")
    loading.save(net, words, tmp_path / "again")
    written = json.loads(
        (tmp_path / "again" / "generation_config.json").read_text(encoding="utf-8")
    )
    assert (
        written["eos_token_id"] == words.all_special_ids
        and not settings.keys() - {"do_sample"} & written.keys()
    )


# Weights: all that are there are used, and none is drawn


def weighed(folder: Path, **values: torch.Tensor | None) -> None:
    """Add weights, or take away those that are None."""
    weights = load_file(folder / "model.safetensors") | values
    save_file(
        {name: weight for name, weight in weights.items() if weight is not None},
        folder / "model.safetensors",
        {"format": "pt"},
    )


QUERY = "model.layers.0.self_attn.q_proj"
UNUSED = {
    "a bias of attention": ("llama", {f"{QUERY}.bias": torch.ones(32)}),
    "a bias of the feed-forward": ("qwen2", {"model.layers.0.mlp.up_proj.bias": torch.ones(48)}),
    "a leftover adapter": ("llama", {f"{QUERY}.lora_A.weight": torch.ones(2, 32)}),
    "a layer that the configuration does not count": (
        "llama",
        {"model.layers.4.input_layernorm.weight": torch.ones(32)},
    ),
    "a norm of queries": ("qwen2", {"model.layers.0.self_attn.q_norm.weight": torch.ones(8)}),
    "a scale of quantised weights": ("llama", {f"{QUERY}.weight_scale": torch.ones(1)}),
    "a second kind of head": ("gpt_neox", {"score.weight": torch.ones(2, 32)}),
}


@pytest.mark.parametrize("what", UNUSED)
def test_weights_that_the_configuration_has_no_place_for_are_refused_by_name(
    what: str, sound: Path, tmp_path: Path
):
    family, weights = UNUSED[what]
    folder = shutil.copytree(sound / family, tmp_path / family)
    weighed(folder, **weights)
    for read in (loading.load, loading.check_weights):
        with pytest.raises(
            StudyError,
            match=(
                rf"{folder} has weights {next(iter(weights))}, which its config.json has no"
                r" place for"
            ),
        ):
            read(f"path:{folder}")


BUFFERS = {
    "llama": {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)},
    "gpt_neox": {
        "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool),
        "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(1),
    },
}


@pytest.mark.parametrize("family", BUFFERS)
def test_buffers_of_old_checkpoints_are_computed_anew(family: str, sound: Path, tmp_path: Path):
    folder = shutil.copytree(sound / family, tmp_path / family)
    weighed(folder, **BUFFERS[family])
    check_computes_as(folder, model(family))


def test_an_output_embedding_by_its_old_name_is_used(sound: Path, tmp_path: Path):
    """Pythia's checkpoints call it `embed_out`."""
    folder = shutil.copytree(sound / "gpt_neox", tmp_path / "gpt_neox")
    weighed(
        folder,
        **{"embed_out.weight": model("gpt_neox").lm_head.weight.detach(), "lm_head.weight": None},
    )
    net, _ = loading.load(f"path:{folder}")
    assert torch.equal(net.lm_head.weight, model("gpt_neox").lm_head.weight)


@pytest.mark.parametrize("family", FAMILIES)
def test_tied_embeddings_agree_with_the_weights(family: str, tmp_path: Path):
    tied = model(family, tie_word_embeddings=True)
    loading.save(tied, tokenizer(), tmp_path)
    embedding = tied.get_input_embeddings().weight.detach().clone()
    weighed(tmp_path, **{"lm_head.weight": embedding})
    net, _ = loading.load(f"path:{tmp_path}")
    assert (
        parts.parameters(net) == parts.parameters(tied)
        and net.lm_head.weight is net.get_input_embeddings().weight
    )
    weighed(tmp_path, **{"lm_head.weight": embedding + 1})
    with pytest.raises(
        StudyError,
        match=(
            r"has an lm_head.weight that is not its input embedding, although its config.json says"
            r" `tie_word_embeddings: true`"
        ),
    ):
        loading.load(f"path:{tmp_path}")
    weighed(tmp_path, **{"lm_head.weight": None})
    configured(tmp_path, tie_word_embeddings=False)
    with pytest.raises(StudyError, match=r"has no weights lm_head.weight"):
        loading.load(f"path:{tmp_path}")


@pytest.mark.parametrize("shape", [(31, 32), (32, 31), (33, 33)])
def test_weights_of_another_shape_are_refused_before_anything_runs(
    shape: tuple, sound: Path, tmp_path: Path
):
    folder = shutil.copytree(sound / "llama", tmp_path / "llama")
    weighed(folder, **{f"{QUERY}.weight": torch.ones(shape)})
    for read in (loading.load, loading.check_weights):
        with pytest.raises(StudyError, match=rf"{folder} cannot be loaded"):
            read(f"path:{folder}")


@pytest.mark.parametrize("family", ["gpt_neox", "llama"])
@pytest.mark.parametrize("name", ["sliding_window", "attention_chunk_size"])
def test_a_window_that_is_text_is_refused_in_a_sentence(
    name: str, family: str, sound: Path, tmp_path: Path
):
    folder = shutil.copytree(sound / family, tmp_path / family)
    configured(folder, **{name: "8"})
    with pytest.raises(StudyError, match=rf"{folder}: its configuration says `{name}: 8`"):
        loading.config(f"path:{folder}")
