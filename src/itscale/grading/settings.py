"""How answers are found and compared: one record that commands, configuration and manifests share."""

from dataclasses import dataclass

from itscale.errors import UserError
from itscale.grading.answers import check_format, extract_answer
from itscale.grading.readings import check_comparison


@dataclass(frozen=True, slots=True)
class Grading:
    """`answer` is a format of `answers.FORMATS`, `compare` one of `readings.COMPARISONS`.

    `read_cut_off`: completions that were cut off, and unfinished thoughts, have answers too. `time_limit` is in seconds of
    processor time for one answer.
    """

    answer: str = "auto"
    compare: str = "auto"
    read_cut_off: bool = False
    time_limit: float = 5.0

    def __post_init__(self) -> None:
        check_format(self.answer)
        check_comparison(self.compare)
        if not self.time_limit > 0:
            raise UserError(f"the time limit is {self.time_limit}: give seconds above 0.")

    def extract(self, text: str, finish: str = "") -> str | None:
        """The answer of a text, None without one."""
        return extract_answer(text, finish, form=self.answer, read_cut_off=self.read_cut_off)
