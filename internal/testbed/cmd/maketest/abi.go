package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// abi regenerates every testdata/abi.golden by compiling the abi.c next to it against this
// machine's kernel headers.
func abi(ctx context.Context) error {
	sources, err := filepath.Glob("*/testdata/abi.c")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "minivmm-abi-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, source := range sources {
		prog := filepath.Join(dir, "abi")
		if out, err := exec.CommandContext(ctx, "gcc", "-o", prog, source).CombinedOutput(); err != nil {
			return fmt.Errorf("gcc %s: %w\n%s", source, err, out)
		}
		out, err := exec.CommandContext(ctx, prog).Output()
		if err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
		golden := strings.TrimSuffix(source, ".c") + ".golden"
		old, err := os.ReadFile(golden)
		if err != nil {
			return err
		}
		if err := os.WriteFile(golden, []byte(merge(string(out), string(old))), 0o644); err != nil {
			return err
		}
		fmt.Println(golden)
	}
	return nil
}

// merge returns the new text. If it has a line "absent NAME", because this machine's headers are
// too old for NAME, the line for NAME in the old text, "KIND NAME VALUE", replaces it, if there is
// one.
func merge(fresh, old string) string {
	known := map[string]string{}
	for line := range strings.Lines(old) {
		if words := strings.Fields(line); len(words) > 1 {
			known[words[1]] = line
		}
	}
	var b strings.Builder
	for line := range strings.Lines(fresh) {
		words := strings.Fields(line)
		if len(words) == 2 && words[0] == "absent" && known[words[1]] != "" {
			line = known[words[1]]
		}
		b.WriteString(line)
	}
	return b.String()
}
