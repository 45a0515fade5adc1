package debian

import (
	"cmp"
	"strings"
)

// CompareVersions compares two versions in the order of deb-version(7). It returns -1, 0 or 1.
func CompareVersions(a, b string) int {
	epochA, upA, revA := splitVersion(a)
	epochB, upB, revB := splitVersion(b)
	return cmp.Or(compareNumbers(epochA, epochB), comparePart(upA, upB), comparePart(revA, revB))
}

func splitVersion(v string) (epoch, upstream, revision string) {
	epoch, upstream, ok := strings.Cut(v, ":")
	if !ok {
		epoch, upstream = "", v
	}
	if at := strings.LastIndexByte(upstream, '-'); at >= 0 {
		upstream, revision = upstream[:at], upstream[at+1:]
	}
	return epoch, upstream, revision
}

// comparePart compares alternating runs of non-digits and digits.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		for weight(a) != 0 || weight(b) != 0 {
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

// weight returns the sort weight of the first character of s. A tilde sorts first, then the end of
// s or a digit, then letters, then all other characters.
func weight(s string) int {
	switch {
	case s == "" || s[0] >= '0' && s[0] <= '9':
		return 0
	case s[0] == '~':
		return -1
	case s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

func cutDigits(s string) (digits, rest string) {
	rest = strings.TrimLeft(s, "0123456789")
	return s[:len(s)-len(rest)], rest
}

// compareNumbers compares strings of digits of any length; an empty string is 0.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}
