"""Models of Hugging Face, small and randomly initialised, train on the server as locally."""

import copy
from typing import Any

import pytest
import torch
import transformers
from transformers import modeling_outputs

import gradwire
from tests.parity.test_from_torch import assert_same_state, assert_trains_the_same, tokens

TEXT = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": 64,
}


def bert() -> Any:
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(transformers.BertConfig(**TEXT))


def masked_bert() -> Any:
    torch.manual_seed(0)
    return transformers.BertForMaskedLM(transformers.BertConfig(**TEXT))


def gpt2() -> Any:
    torch.manual_seed(0)
    special = {"bos_token_id": 0, "eos_token_id": 0, "loss_type": "ForCausalLM"}
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=40, n_embd=32, n_layer=2, n_head=4, n_positions=64, **special
        )
    )


def vit() -> Any:
    torch.manual_seed(0)
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            image_size=16,
            patch_size=8,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=37,
        )
    )


def text(batch: int, length: int) -> dict[str, torch.Tensor]:
    ids = tokens(batch, length)
    mask = torch.ones_like(ids)
    mask[0, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": ids[:, 0] % 2}


def sentences(batch: int, length: int) -> dict[str, torch.Tensor]:
    return {"input_ids": tokens(batch, length), "labels": tokens(batch, length).flip(1)}


def pictures(batch: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return {
        "pixel_values": torch.randn(batch, 3, 16, 16, generator=generator),
        "labels": torch.randint(0, 2, (batch,), generator=generator),
    }


def own_loss(_: Any, model: Any, batch: dict[str, torch.Tensor]) -> Any:
    return model(**batch).loss


class TestTraining:
    def test_bert_for_classification(self) -> None:
        batches = [text(2, 7), text(3, 5), text(1, 9)]
        remote = assert_trains_the_same(bert(), text(2, 7), batches, own_loss)
        assert sum(map(len, remote._graphs.values())) == 2

    def test_bert_with_tied_embeddings(self) -> None:
        batches = [sentences(2, 7), sentences(3, 5)]
        remote = assert_trains_the_same(masked_bert(), sentences(2, 7), batches, own_loss)
        embedding = remote.bert.embeddings.word_embeddings.weight
        assert remote.cls.predictions.decoder.weight is embedding

    def test_gpt2(self) -> None:
        batches = [sentences(2, 7), sentences(3, 5), sentences(1, 9)]
        remote = assert_trains_the_same(gpt2(), sentences(2, 7), batches, own_loss)
        assert remote.lm_head.weight is remote.transformer.wte.weight
        assert list(remote.state_dict()) == list(gpt2().state_dict())

    def test_vit(self) -> None:
        batches = [pictures(2), pictures(5), pictures(1)]
        assert_trains_the_same(vit(), pictures(2), batches, own_loss)


class TestOutputs:
    def test_are_of_the_classes_of_the_library(self) -> None:
        remote = gradwire.from_torch(bert(), text(2, 7)).eval()
        batch = text(3, 4)
        output = remote(**batch)
        local = bert().eval()(**batch)
        assert isinstance(output, modeling_outputs.SequenceClassifierOutput)
        assert list(output.keys()) == ["loss", "logits"]
        assert output["logits"] is output.logits
        assert output[1] is output.logits
        assert torch.equal(gradwire.to_torch(output.logits), local.logits)
        assert output.loss.item() == local.loss.item()

    def test_with_a_single_field_are_not_looked_into(self) -> None:
        remote = gradwire.from_torch(bert(), text(2, 7))
        batch = text(2, 7)
        del batch["labels"]
        output = remote(**batch)
        assert list(output) == ["logits"]
        assert output.logits.shape == (2, 2)
        hidden = remote(**batch, output_hidden_states=True).hidden_states
        assert [state.shape[-1] for state in hidden] == [32] * 3

    def test_that_do_not_come_back_say_so_when_they_are_used(self) -> None:
        cache = gradwire.from_torch(gpt2(), sentences(2, 3))(**sentences(2, 3)).past_key_values
        assert "DynamicCache" in repr(cache)
        with pytest.raises(AttributeError, match="use_cache=False"):
            cache.get_seq_length()


def test_a_model_trains_in_a_loop_on_the_server() -> None:
    module = vit()
    local = copy.deepcopy(module)
    remote = gradwire.from_torch(module, {"pixel_values": pictures(2)["pixel_values"]})
    batch = pictures(6)
    result = gradwire.train(
        remote,
        (batch["pixel_values"], batch["labels"]),
        exact=True,
        loss=lambda output, labels: gradwire.nn.functional.cross_entropy(output.logits, labels),
        optimizer=gradwire.optim.AdamW(remote.parameters(), lr=0.01),
        batch_size=4,
        shuffle=False,
        seed=5,
        progress=False,
    )
    torch.manual_seed(5)
    dataset = torch.utils.data.TensorDataset(batch["pixel_values"], batch["labels"])
    optimizer = torch.optim.AdamW(local.parameters(), lr=0.01)
    losses = []
    for pixels, labels in torch.utils.data.DataLoader(dataset, batch_size=4):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(local(pixels).logits, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert result.losses == losses
    assert_same_state(gradwire.to_torch(remote), local)
