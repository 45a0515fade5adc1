package debian

import (
	"cmp"
	"strings"
)

// CompareVersions compares two versions in the order of deb-version(7). It returns -1, 0 or 1.
func CompareVersions(a, b string) int {
	epochA, a := cutEpoch(a)
	epochB, b := cutEpoch(b)
	upA, revA := cutRevision(a)
	upB, revB := cutRevision(b)
	return cmp.Or(compareNumbers(epochA, epochB), comparePart(upA, upB), comparePart(revA, revB))
}

func cutEpoch(v string) (epoch, rest string) {
	if epoch, rest, ok := strings.Cut(v, ":"); ok {
		return epoch, rest
	}
	return "", v
}

func cutRevision(v string) (upstream, revision string) {
	if at := strings.LastIndexByte(v, '-'); at >= 0 {
		return v[:at], v[at+1:]
	}
	return v, ""
}

// comparePart compares alternating runs of non-digits and digits.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		for (a != "" && !isDigit(a[0])) || (b != "" && !isDigit(b[0])) {
			if c := cmp.Compare(weight(a), weight(b)); c != 0 {
				return c
			}
			a, b = a[1:], b[1:]
		}
		var numA, numB string
		numA, a = cutDigits(a)
		numB, b = cutDigits(b)
		if c := compareNumbers(numA, numB); c != 0 {
			return c
		}
	}
	return 0
}

// weight returns the sort weight of the first character of s, the rest of a version: a tilde sorts
// first, then the end or a digit, then letters, then all others.
func weight(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func cutDigits(s string) (digits, rest string) {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return s[:n], s[n:]
}

// compareNumbers compares strings of digits of any length; an empty string is 0.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}
