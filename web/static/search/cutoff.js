// The slider below whose score results are hidden.

import { find } from "../dom.js";
import { percent } from "../gallery/figures.js";
import { t } from "../texts.js";

export class Cutoff {
  constructor(onChange) {
    this.input = find("#cutoff");
    this.output = find("#cutoff-value");
    this.input.addEventListener("input", () => onChange(this.value));
  }

  get value() {
    return Number(this.input.value);
  }

  set value(score) {
    this.input.value = String(score);
  }

  // Shows where it stands. Gives what it does, in words: `count` results are left, and `last` is the last of them.
  describe(count, last) {
    const score = this.value > 0 ? this.value.toFixed(2) : t("search.cutoff_off");
    this.output.textContent = score;
    if (this.value === 0) return "";
    if (last?.percentile == null) return t("search.cutoff_shown", { count, score });
    return t("search.cutoff_shown_percent", { count, score, percent: percent(last.percentile, last.score) });
  }
}
