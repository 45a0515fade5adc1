package vmmtest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/transcript"
)

// Transcript records a console or another output of a guest.
type Transcript struct{ *transcript.Transcript }

// NewTranscript returns an empty transcript.
func NewTranscript() *Transcript { return &Transcript{transcript.New()} }

// Expect waits until the pattern matches text that follows the match of the previous call, and
// returns the submatches. It fails if the guest reports a failure or End is called.
func (t *Transcript) Expect(pattern string) ([]string, error) {
	late := fmt.Errorf("not within %v", testenv.Patience)
	ctx, cancel := context.WithTimeoutCause(context.Background(), testenv.Patience, late)
	defer cancel()
	_, match, err := t.Transcript.Expect(ctx, regexp.MustCompile(`(?:`+pattern+`)|(`+markFail+`.*)\r\n`))
	if err != nil {
		return nil, err
	}
	end := len(match) - 1
	if failure := match[end]; failure != "" {
		return nil, errors.New(failure)
	}
	return match[:end], nil
}

// complaint matches console text that Linux writes only if something is wrong with the VM.
var complaint = regexp.MustCompile(`ACPI (BIOS )?(Error|Exception|Warning)|BIOS bug|Firmware (Bug|Warn)|nobody cared|WARNING: CPU|BUG:|Kernel panic`)

// hostsFault is a complaint that the emulated host causes and that no VM in that host can avoid:
// QEMU's TCG lets a guest execute XSETBV without the exit that KVM asked for, so KVM computes CPUID
// leaf 0xd from an outdated XCR0.
var hostsFault = regexp.MustCompile(`WARNING: CPU: \d+ PID: \d+ at arch/x86/kernel/fpu/xstate.c`)

// Complaints lists the lines in which the guest's Linux complains about the VM.
func (t *Transcript) Complaints() []string {
	var lines []string
	for line := range strings.Lines(t.String()) {
		if complaint.MatchString(line) && !hostsFault.MatchString(line) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}
