package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"minivmm/internal/testbed/clitest"
)

// TestForeignTextIsCleaned checks that text from other sources reaches the terminal without its
// escape sequences. Only a guest's own console is raw.
func TestForeignTextIsCleaned(t *testing.T) {
	const evil = "\x1b]0;owned\a\x1b[2J\u009b31m"
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		message, _ := json.Marshal(evil)
		fmt.Fprintf(w, `{"errors":[{"code":"NAME_UNKNOWN","message":%s}]}`, message)
	}))
	defer registry.Close()
	labelled := make([]byte, 4096) // an ext file system's magic and label
	copy(labelled[1024+0x38:], "\x53\xef")
	copy(labelled[1024+0x78:], "\x1b[2J\r\u009b")
	guest := "minivmm: the guest said: " + evil
	for name, args := range map[string][]string{
		"a registry's message":    {"disk", "from-oci", strings.TrimPrefix(registry.URL, "http://") + "/app", "new.img"},
		"a file's name":           {"check", evil + ".toml"},
		"a file system's label":   {"disk", "info", "labelled.img"},
		"the same as JSON":        {"disk", "info", "--json", "labelled.img"},
		"an unknown flag":         {"run", "--" + evil},
		"a message while it runs": {"run", "good.toml"},
	} {
		cmd := program(t, "log "+guest, args...)
		cmd.Env = append(cmd.Env, "MINIVMM_CACHE="+t.TempDir())
		if err := os.WriteFile(filepath.Join(cmd.Dir, "labelled.img"), labelled, 0o600); err != nil {
			t.Fatal(err)
		}
		_, stdout, stderr := clitest.Finish(t, cmd)
		text := strings.ReplaceAll(stdout, "ready\r\n", "") + stderr
		if strings.ContainsAny(text, "\x1b\a\r\u009b") || !strings.Contains(text, "1b") {
			t.Errorf("%s: %q", name, text)
		}
	}
}
