package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/kernel"
	"minivmm/internal/testbed/clitest"
	"minivmm/internal/testbed/kerneltest"
)

// kernelProgram returns a function that runs minivmm with its own cache, in a folder with kernels
// and modules.
func kernelProgram(t *testing.T) (run func(args string) (code int, stdout, stderr string)) {
	t.Helper()
	dir := t.TempDir()
	for name, b := range map[string][]byte{
		"bzImage":               kerneltest.BzImage("6.12.3-mine"),
		"bzImage2":              kerneltest.BzImage("6.12.3-mine #2"),
		"vmlinux":               kerneltest.Vmlinux("6.1.9-cloud-amd64"),
		"text":                  []byte("text\n"),
		"mods/modules.dep":      []byte("a.ko:\n"),
		"mods/a.ko":             kerneltest.Module("vermagic=6.12.3-mine SMP"),
		"othermods/a.ko":        kerneltest.Module("vermagic=6.1.0 SMP"),
		"othermods/modules.dep": []byte("a.ko:\n"),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root := t.TempDir()
	return func(args string) (int, string, string) {
		t.Helper()
		words := append([]string{"kernel"}, strings.Fields(args)...)
		if strings.HasPrefix(args, "initramfs ") {
			words = words[1:]
		}
		cmd := program(t, "", words...)
		cmd.Dir = dir
		// No PATH: these commands must not need other programs.
		cmd.Env = append(cmd.Env, cache.Env+"="+root, "PATH=")
		return clitest.Finish(t, cmd)
	}
}

func TestKernelCommands(t *testing.T) {
	run := kernelProgram(t)
	for _, tt := range []struct {
		args     string
		code     int
		out, err string // text that each contains; "": no output
	}{
		{"", 0, "minivmm kernel [command]", ""},
		{"frob", 2, "", "minivmm: unknown command \"frob\" of kernel"},
		{"lsit", 2, "", "did you mean \"list\"?"},
		{"list", 0, "ID  NAME  RELEASE", ""},
		{"list --json", 0, "[]\n", ""},
		{"path", 3, "", "minivmm: kernel: no default kernel yet: fetch one with minivmm kernel fetch\n"},
		{"fetch", 4, "", "import a kernel: minivmm kernel import FILE"},
		{"fetch frob", 3, "", `minivmm: kernel: "frob" is not a kernel that can be fetched`},
		{"fetch 6.1 6.12", 2, "", "usage: minivmm kernel fetch [NAME]"},
		{"import", 2, "", "usage: minivmm kernel import FILE"},
		{"import text", 3, "", "minivmm: kernel: import text: a text file, not a kernel image"},
		{"import absent", 3, "", "no such file"},
		{"import bzImage --modules othermods", 3, "", "a.ko was built for kernel 6.1.0, not 6.12.3-mine"},
		{"import bzImage --name 6.12", 3, "", `name "6.12"`},
		{"import bzImage --name=", 2, "", "--name is empty"},
		{"import bzImage --name own --default --modules mods", 0, " own 6.12.3-mine: added: ", ""},
		{"import vmlinux", 0, " 6.1.9-cloud-amd64: added: ", ""},
		{"import bzImage2", 0, " 6.12.3-mine: added: ", ""},
		{"list", 0, "  default  ", ""},
		{"path", 0, "/vmlinuz\n", ""},
		{"path own --vmlinux", 0, "/vmlinux\n", ""},
		{"path own --modules", 0, "/lib/modules/6.12.3-mine\n", ""},
		{"initramfs -o - --modules a --kernel own", 0, "/modules/a.ko", ""},
		{"initramfs -o - --modules a --kernel store:own", 0, "/modules/a.ko", ""},
		{"initramfs -o - --modules a --kernel 6.1.9-cloud-amd64", 3, "", "came without modules"},
		{"initramfs -o - --modules a --kernel absent", 3, "", "minivmm kernel list shows its kernels"},
		{"path 6.1.9-cloud-amd64 --modules", 3, "", "has no modules folder"},
		{"path 6.1", 3, "", "\"6.1\" is not in the store"},
		{"path --modules --vmlinux", 2, "", "vmlinux"},
		{"fetch 6.1.9-cloud-amd64", 0, "already in the store", ""},
		{"rm", 2, "", "usage: minivmm kernel rm NAME..."},
		{"rm 6.12.3-mine", 3, "", `"6.12.3-mine" matches more than one kernel: `},
		{"rm own absent", 3, " own 6.12.3-mine: removed\n", `minivmm: kernel: "absent" is not in the store: minivmm kernel list`},
		{"rm 6.12.3-mine 6.1.9-cloud-amd64", 0, " 6.1.9-cloud-amd64: removed\n", ""},
		{"list --json", 0, "[]\n", ""},
	} {
		code, out, errs := run(tt.args)
		if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(errs, tt.err) || tt.out == "" && out != "" || tt.err == "" && errs != "" {
			t.Errorf("minivmm kernel %s: exit code %d, stdout %q, stderr %q\nwant %d, %q, %q", tt.args, code, out, errs, tt.code, tt.out, tt.err)
		}
	}
}

func TestKernelListJSON(t *testing.T) {
	run := kernelProgram(t)
	if code, _, errs := run("import bzImage --default"); code != 0 {
		t.Fatal(errs)
	}
	_, out, _ := run("list --json")
	var got []kernel.Kernel
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got) != 1 {
		t.Fatalf("%v in %s", err, out)
	}
	if k := got[0]; k.Release != "6.12.3-mine" || !k.Default || k.Modules != "" || filepath.Base(k.Source) != "bzImage" {
		t.Errorf("got %+v", k)
	}
	if _, err := os.Stat(got[0].Vmlinux); err != nil {
		t.Error(err)
	}
}
