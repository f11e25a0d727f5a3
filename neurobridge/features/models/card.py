"""The page that goes with the weights of a reference model."""

from __future__ import annotations

import json
from typing import Any

_ABOUT = {
    "conv_net": "A small convolutional classifier, trained with labels.",
    "conv_vae": "A small convolutional variational autoencoder, trained on images alone.",
    "conv_contrastive": (
        "A small convolutional encoder, trained on images alone to give two distorted views of an image the same place."
    ),
    "gabor_energy": "Gabor energy filters, a classic model of early vision. Nothing is trained; the arguments decide all weights.",
}


def card_page(card: dict[str, Any]) -> str:
    """Write the model card of a reference as markdown.

    Parameters
    ----------
    card : dict
        `Reference.card`.
    """
    rows = [
        ("architecture", f"{card['name']}, {json.dumps(card['arguments'], sort_keys=True)}"),
        ("parameters", f"{card['n_parameters']:,}"),
        (
            "input",
            f"{' x '.join(map(str, card['input']))} (channels x height x width), prepared by the card's preprocessing",
        ),
        ("layers", ", ".join(card["layers"])),
        ("weights", card["weights_digest"]),
        ("made with", f"neurobridge {card['neurobridge']}, torch {card['torch']}"),
    ]
    training, data = card["training"], card["data"]
    if training and data:
        losses = training["losses"]
        course = (
            f"{losses[0]:.4f} in the first epoch, {losses[-1]:.4f} in the last" if losses else "not trained: no epoch"
        )
        rows += [
            ("data", f"{data.get('identifier', 'images')}: {data['n_images']} images, {data['digest']}"),
            ("labels", card["labels"] or "none used"),
            ("training", f"{training['epochs']} epochs, batches of {training['batch_size']}, Adam at "
                         f"{training['learning_rate']} (one cycle), seed {training['seed']}, {training['threads']} thread(s)"),
            ("mean loss", course),
        ]  # fmt: skip
    table = "\n".join(f"| {name} | {text} |" for name, text in rows)
    citation = (data or {}).get("citation")
    cite = f"\n## Cite for the data\n\n```bibtex\n{citation.strip()}\n```\n" if citation else ""
    return f"""# {card["name"]}

{_ABOUT[card["name"]]}

| what | value |
|---|---|
{table}

## Use

```python
reference = neurobridge.features.load_reference(".")
activations = neurobridge.features.extract(
    reference.model, images, {card["layers"]!r}, preprocess=reference.preprocess
)
```

## Limits

A reference for experiments, tests and the demo, not a good model of vision. It knows the kind of images it was trained on; do not
test on those very images. `{"card.json"}` beside this page has every number.
{cite}"""
