"""Looking into a network agrees with counting by hand."""

from __future__ import annotations

import pytest
import torch

from nnopt_lab import inspecting, models


def test_layers_add_up_to_the_whole_network() -> None:
    for name in ("article_cnn", "resnet8", "teacher"):
        model = models.build(name)
        found = inspecting.layers(model)
        size = models.count(model)
        assert sum(layer.parameters for layer in found) == size.parameters
        assert sum(layer.macs for layer in found) == size.macs
        assert found[-1].output_shape == (10,)


def test_layers_leave_the_model_as_it_was() -> None:
    model = models.build("resnet8").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inspecting.layers(model)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_confusion_matrix_counts_by_truth_and_prediction() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(300, 4, generator=generator), torch.randint(0, 4, (300,), generator=generator)
    matrix = inspecting.confusion_matrix(logits, labels, num_classes=4)
    pairs = list(zip(labels.tolist(), logits.argmax(1).tolist(), strict=True))
    assert matrix.tolist() == [[pairs.count((truth, guess)) for guess in range(4)] for truth in range(4)]


def test_confusion_matrix_by_hand() -> None:
    logits = torch.tensor([[2.0, 1, 0], [0, 2, 1], [0, 1, 2], [2, 1, 0]])
    matrix = inspecting.confusion_matrix(logits, torch.tensor([0, 1, 1, 2]), num_classes=3)
    assert matrix.tolist() == [[1, 0, 0], [0, 1, 1], [1, 0, 0]]


def test_most_confident_mistakes_are_wrong_and_sorted() -> None:
    logits = torch.tensor([[9.0, 0], [0, 3], [5, 0], [0, 1]])
    mistakes = inspecting.most_confident_mistakes(logits, torch.tensor([0, 0, 1, 0]), count=5)
    assert [wrong.index for wrong in mistakes] == [2, 1, 3]
    assert mistakes[0].predicted == 0 and mistakes[0].label == 1
    assert mistakes[0].confidence == pytest.approx(1 / (1 + 2.718281828**-5))


def test_feature_maps_are_what_the_layer_puts_out(tiny_data) -> None:
    model = models.build("article_cnn", num_classes=tiny_data.num_classes).eval()
    image = tiny_data.test.images[0]
    maps = inspecting.feature_maps(model, tiny_data, image, "conv1")
    from nnopt_lab.datasets import BatchSource

    source = BatchSource(tiny_data, tiny_data.test)
    with torch.no_grad():
        expected = model.conv1(source.normalize(image[None]))[0]
    assert torch.allclose(maps, expected, atol=1e-6)


@pytest.mark.parametrize("layer", ["fc1", "nothing_like_it"])
def test_feature_maps_name_a_layer_without_maps(tiny_data, layer: str) -> None:
    model = models.build("article_cnn", num_classes=tiny_data.num_classes)
    with pytest.raises(ValueError, match=f"layer is '{layer}'"):
        inspecting.feature_maps(model, tiny_data, tiny_data.test.images[0], layer)
