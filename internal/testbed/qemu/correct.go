package qemu

import (
	"errors"
	"strings"
)

// helper is the QEMU source file to which correct adds clearLine.
const helper = "target/i386/tcg/system/svm_helper.c"

// errNoPlace reports that the helper in this version of QEMU differs from the code that correct
// expects. The build then fails.
var errNoPlace = errors.New("no place found for the missing line: expected helper_vmrun to call do_interrupt_x86_hardirq exactly once " +
	"between case SVM_EVTINJ_TYPE_INTR and its break; read how this version injects events, then adapt internal/testbed/qemu")

const (
	caseLine  = "case SVM_EVTINJ_TYPE_INTR:"
	callLine  = "do_interrupt_x86_hardirq(env, vector, 1);"
	clearLine = "cs->exception_index = -1;"
)

// correct returns the text of svm_helper.c with clearLine inserted after callLine. If clearLine is
// already there, correct returns the text unchanged. If the code is not as expected, correct
// returns errNoPlace.
func correct(text string) (string, error) {
	before, rest, ok := strings.Cut(text, caseLine)
	if !ok || strings.Contains(rest, caseLine) {
		return "", errNoPlace
	}
	body, after, ok := strings.Cut(rest, "break;")
	if !ok || strings.Count(body, callLine) != 1 {
		return "", errNoPlace
	}
	head, tail, _ := strings.Cut(body, callLine)
	if strings.TrimSpace(tail) == clearLine {
		return text, nil
	}
	if strings.TrimSpace(tail) != "" || !strings.Contains(head, "cs->exception_index = vector;") {
		return "", errNoPlace
	}
	indent := head[strings.LastIndex(head, "\n")+1:]
	return before + caseLine + head + callLine + "\n" + indent + clearLine + tail + "break;" + after, nil
}
