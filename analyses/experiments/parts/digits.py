"""Names of the digits, and wordings of captions."""

from __future__ import annotations

WORDS = {
    "0": "zero", "1": "one", "2": "two", "3": "three", "4": "four",
    "5": "five", "6": "six", "7": "seven", "8": "eight", "9": "nine",
}  # fmt: skip
#: For `neurobridge.features.captions_from_templates`: figures and words.
NAMES = {digit: [digit, word] for digit, word in WORDS.items()}
WORDINGS = (
    "{label}", "the digit {label}", "a handwritten {label}", "a photo of the number {label}", "an image that shows {a}",
    "someone wrote {a} here", "this is the numeral {label}", "a scan of {a} in ink",
)  # fmt: skip
