package emuhost

import (
	"path/filepath"
	"slices"
	"strings"
)

// Flags of test binaries that name an output file (relative to -test.outputdir) or an output
// folder. See "go help testflag". Two more outputs are chosen by go test itself: the file of
// -test.testlogfile, and the coverage folder, which is in -test.gocoverdir or in the environment
// variable GOCOVERDIR.
var (
	fileFlags = []string{"blockprofile", "coverprofile", "cpuprofile", "memprofile", "mutexprofile", "testlogfile", "trace"}
	dirFlags  = []string{"fuzzcachedir", "gocoverdir", "outputdir"}
)

// TestShares returns the folders to which a test binary with these arguments, environment and
// working directory writes its results. The caller must share them, or the results are lost.
func TestShares(args, env []string, cwd string) []string {
	values := map[string]string{}
	for i, arg := range args {
		if arg == "--" || arg == "-args" || arg == "--args" {
			break
		}
		name, isTest := strings.CutPrefix(strings.TrimLeft(arg, "-"), "test.")
		if !isTest || !strings.HasPrefix(arg, "-") {
			continue
		}
		name, value, joined := strings.Cut(name, "=")
		if !joined && i+1 < len(args) {
			value = args[i+1]
		}
		values[name] = value
	}
	abs := func(base, p string) string {
		if filepath.IsAbs(p) {
			return filepath.Clean(p)
		}
		return filepath.Join(base, p)
	}
	output := cwd
	if v := values["outputdir"]; v != "" {
		output = abs(cwd, v)
	}
	var dirs []string
	for name, value := range values {
		switch {
		case value == "":
		case slices.Contains(dirFlags, name):
			dirs = append(dirs, abs(cwd, value))
		case slices.Contains(fileFlags, name):
			dirs = append(dirs, filepath.Dir(abs(output, value)))
		case name == "fuzz":
			// Fuzzing writes failing inputs to testdata in the package's folder.
			dirs = append(dirs, cwd)
		}
	}
	for _, kv := range env {
		if dir, ok := strings.CutPrefix(kv, "GOCOVERDIR="); ok && dir != "" {
			dirs = append(dirs, abs(cwd, dir))
		}
	}
	return outermost(dirs)
}
