package terminal

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestClean(t *testing.T) {
	for s, want := range map[string]string{
		"":                                "",
		"plain, é, 漢字 and \"quotes\" \\n": "plain, é, 漢字 and \"quotes\" \\n",
		"lines\nand\ttabs":                "lines\nand\ttabs",
		"\x1b]0;title\a":                  `\u001b]0;title\u0007`,
		"over\rwritten\b\x7f":             `over\u000dwritten\u0008\u007f`,
		"C1: \u009b31m":                   `C1: \u009b31m`,
		"not UTF-8: \x9b31m \xc3":         `not UTF-8: \x9b31m \xc3`,
		"right to left: \u202e, none: \ufeff, a tag: \U000e0041": `right to left: \u202e, none: \ufeff, a tag: \udb40\udc41`,
		"the replacement: \ufffd":                                "the replacement: \ufffd",
	} {
		var b strings.Builder
		n, err := Writer{&b}.Write([]byte(s))
		if got := Clean(s); got != want || b.String() != want || n != len(s) || err != nil {
			t.Errorf("%q: got %q and %q (%d, %v), want %q", s, got, b.String(), n, err, want)
		}
	}
}

func TestCleanedJSONMeansTheSame(t *testing.T) {
	const want = "\x1b[31m \u009b \u202e \U000e0041 \x7f é"
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got string
	if err := json.Unmarshal([]byte(Clean(string(b))), &got); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
