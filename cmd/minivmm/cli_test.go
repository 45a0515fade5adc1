package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"minivmm/internal/testbed/clitest"
	"minivmm/internal/testbed/testenv"
	"minivmm/vmm/config"
)

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		name  string
		guest string
		args  string // split at blanks; a quoted blank is '·'
		code  int
		out   string // part of stdout; empty: nothing is printed
		err   string
	}{
		{"no arguments", "", "", 0, "Available Commands:", ""},
		{"help of run has the exit codes", "", "run --help", 0, "128+n  stopped by signal n", ""},
		{"an unknown command", "", "chekc x", 2, "", `minivmm: unknown command "chekc"; did you mean "check"?`},
		{"an unknown command without a similar one", "", "frobnicate", 2, "", `minivmm: unknown command "frobnicate"`},
		{"an unknown flag", "", "run good.toml --memroy 1G", 2, "", `minivmm: unknown flag: --memroy; did you mean "--memory"?`},
		{"a flag without its value", "", "run good.toml --memory", 2, "", "minivmm: flag needs an argument: --memory"},
		{"a command for a guest without minivmm's init", "", "run good.toml -- true", 2, "", "minivmm: a command requires minivmm's own init"},
		{"an image with a kernel file", "", "run good.toml --image x", 3, "", "minivmm: image: an image requires minivmm's own init"},
		{"two files", "", "run a.toml b.toml", 2, "", "usage: minivmm run [FILE] [-- COMMAND...]"},
		{"an empty file name", "", "check", 2, "", "usage: minivmm check FILE"},

		{"check of a good file", "", "check plain.toml", 0, "plain.toml: ok: plain, vcpus 1, memory 256M, net 0, disk 1\n", ""},
		{"check of a bad file", "", "check bad.toml", 3, "", "bad.toml:2:1: error: unknown key \"kernal\" in boot; did you mean \"kernel\"?\nbad.toml:4:9: error: machine.vcpus: 0 is out of range: want 1 to 64\n"},
		{"check of a missing file", "", "check nothing.toml", 3, "", "minivmm: open nothing.toml: no such file or directory"},
		{"check of a directory", "", "check .", 3, "", "minivmm: read .: not a regular file"},

		{"version", "", "version", 0, "minivmm ", ""},
		{"version for programs", "", "version --json", 0, `"platform": "linux/`, ""},
		{"version with arguments", "", "version 1", 2, "", "usage: minivmm version"},

		{"a guest that powers off", "off", "run good.toml", 0, "ready\r\n", ""},
		{"a guest that reboots", "reboot", "run good.toml", 10, "ready\r\n", ""},
		{"a guest that crashes", "crash", "run good.toml", 11, "ready\r\n", ""},
		{"a guest that KVM cannot run", "broken", "run good.toml", 12, "ready\r\n", "minivmm: vcpu 1: KVM cannot continue: "},
		{"a machine that cannot be closed", "stays", "run good.toml", 1, "ready\r\n", "minivmm: close net0: device or resource busy\n"},
		{"a tap in use", "busy", "run good.toml", 6, "", "minivmm: net0: TUNSETIFF /dev/net/tun: device or resource busy\n"},
		{"a bad file is rejected", "off", "run bad.toml", 3, "", "bad.toml:2:1: error:"},
		{"a console in a file", "off", "run quiet.toml", 0, "", ""},
		{"no console", "off", "run good.toml --console null", 0, "", ""},
		{"an unknown console mode", "off", "run good.toml --console pty", 2, "", `--console: error: console.mode: unknown value "pty": want`},

		{"flags alone", "", "run --dry-run --kernel vmlinuz --disk disk.img,serial=s,readonly --disk a,,b.img,readonly=off --disk path=none --net vhost,mtu=1400 --net address=10.0.2.1/24 --cpus 3 --memory 1G --name x --cmdline a=b·c", 0,
			"name = \"x\"\n\n[machine]\nvcpus = 3\nmemory = \"1G\"\n", ""},
		{"each spelling of a disk", "", "run --dry-run --kernel vmlinuz --disk disk.img --disk a,,b.img --disk path=none", 0, "/none\"\n", ""},
		{"flags override a file", "", "run --dry-run good.toml --memory 1G --disk none", 0, "memory = \"1G\"\n", ""},
		{"a flag given twice: the last one counts", "", "run --dry-run good.toml --cpus 0 --cpus 2", 0, "vcpus = 2\n", ""},
		{"bad values in flags, in their order", "", "run --kernel nowhere --net frob --cpus two --disk disk.img,seiral=x --memory 64", 2, "", "/nowhere\": no such file or directory\n" +
			"--net \"frob\": error: net[0].backend: unknown value \"frob\": want \"auto\", \"vhost\" or \"user\"\n" +
			"--cpus: error: machine.vcpus must be a whole number, not \"two\"\n" +
			"--disk \"disk.img,seiral=x\": error: unknown key \"seiral\" in disk[0]; did you mean \"serial\"?\n" +
			"--memory: error: machine.memory: size \"64\" has no unit: write \"64M\" for MiB, or \"64K\", \"64G\"\n"},
		{"a bad value in a flag and a bad file", "", "run bad.toml --memory 64", 3, "", "machine.vcpus: 0 is out of range: want 1 to 64\n--memory: error:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := strings.Fields(tt.args)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "·", " ")
			}
			code, out, errs := clitest.Finish(t, program(t, tt.guest, args...))
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if !strings.Contains(out, tt.out) || tt.out == "" && out != "" {
				t.Errorf("stdout is %q, want it to contain %q", out, tt.out)
			}
			if !strings.Contains(errs, tt.err) || tt.err == "" && errs != "" {
				t.Errorf("stderr is %q, want it to contain %q", errs, tt.err)
			}
		})
	}
}

func TestDryRunPrintsAnEquivalentFile(t *testing.T) {
	cmd := program(t, "", "run", "--dry-run", "good.toml", "--net", "auto,address=10.0.2.1/24", "--disk", "a,,b.img,readonly", "--cmdline", "a=b \"c\"")
	code, out, errs := clitest.Finish(t, cmd)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	cfg, err := config.Parse(filepath.Join(cmd.Dir, "again.toml"), []byte(out))
	if err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if string(cfg.TOML()) != out || cfg.Boot.Cmdline != `a=b "c"` || len(cfg.Disk) != 1 || !cfg.Disk[0].ReadOnly || !strings.HasSuffix(string(cfg.Disk[0].Path), "/a,b.img") {
		t.Errorf("got\n%s", out)
	}
}

func TestConsoleFileIsAppendedTo(t *testing.T) {
	cmd := program(t, "off", "run", "quiet.toml")
	log := filepath.Join(cmd.Dir, "console.log")
	if err := os.WriteFile(log, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := clitest.Finish(t, cmd); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	if got, _ := os.ReadFile(log); string(got) != "before\nready\r\n" {
		t.Errorf("the file contains %q", got)
	}
}

// TestTheRealProgram builds minivmm itself: the tests above call execute, but not main.
func TestTheRealProgram(t *testing.T) {
	testenv.Need(t, "compiler")
	exe := filepath.Join(t.TempDir(), "minivmm")
	if out, err := exec.Command("go", "build", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, tt := range []struct {
		args string
		code int
	}{{"version", 0}, {"check /nothing.toml", 3}, {"run --frob", 2}, {"help run", 0}} {
		cmd := exec.Command(exe, strings.Fields(tt.args)...)
		if code, _, _ := clitest.Finish(t, cmd); code != tt.code {
			t.Errorf("minivmm %s: exit code %d, want %d", tt.args, code, tt.code)
		}
	}
}
