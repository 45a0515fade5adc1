package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/kernel"
	"minivmm/internal/testbed/clitest"
	"minivmm/internal/testbed/testenv"
)

// ownGuest is the real program with minivmm's own guest. The kernels come from the store that the
// tests were given.
func ownGuest(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	testenv.Need(t, "kvm", "guests")
	cmd := realProgram(t, append([]string{"run"}, args...)...)
	cmd.Env = append(cmd.Env, cache.Env+"="+storeDir(t))
	return cmd
}

// storeDir returns the cache that contains the default kernel.
func storeDir(t *testing.T) string {
	t.Helper()
	c, err := cache.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kernel.Open(c).Find(""); err != nil {
		t.Fatalf("%v in %s: make test fetches one", err, c.Root)
	}
	return c.Root
}

func TestCommandRunsInTheDefaultGuest(t *testing.T) {
	for _, tt := range []struct {
		name, flags, script, stdin string
		code                       int
		stdout                     []string // in this order
		stderr                     string
	}{
		{"sees its kernel and network", "--net vhost,address=10.71.4.1/24", "cat /proc/version; ip addr; ip route", "", 0,
			[]string{"Linux version 6.12", "1: lo:", "eth0", "inet 10.71.4.2/24", "default via 10.71.4.1"}, ""},
		{"fails", "", "false", "", 1, nil, ""},
		{"kills itself", "", "kill -9 $$", "", 137, nil, ""},
		{"reads, writes and complains", "", "cat; echo err >&2; exit 3", "in\n", 3, []string{"in\n"}, "err\n"},
		// Linux 6.1 complains about ports 0xcf8 and 0xcfc, which it does not need.
		{"on the older kernel", "--kernel store:6.1-cloud --cpus 2 --name old", "uname -r; nproc; hostname; exec nosuch", "", 127, []string{"6.1.", "2\nold\n"},
			"PCI: Fatal: No config space access function found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leavesNothing(t)
			cmd := ownGuest(t, append(strings.Fields(tt.flags), "--", "sh", "-c", tt.script)...)
			var stdout, stderr bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(tt.stdin), &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if got := clitest.Code(cmd); got != tt.code {
				t.Errorf("exit code %d, want %d", got, tt.code)
			}
			rest := stdout.String()
			for _, want := range tt.stdout {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Errorf("stdout is %q, want %q in it, in this order", stdout.String(), tt.stdout)
				}
				rest = after
			}
			if tt.stdout == nil && rest != "" {
				t.Errorf("stdout is %q, want nothing", rest)
			}
			if !strings.Contains(stderr.String(), tt.stderr) || tt.stderr == "" && stderr.Len() > 0 {
				t.Errorf("stderr is %q, want %q", stderr.String(), tt.stderr)
			}
		})
	}
}

func TestNothingIsLostBetweenACommandAndItsHost(t *testing.T) {
	data := make([]byte, 5<<20+17)
	rng := rand.NewChaCha8([32]byte{})
	rng.Read(data)
	cmd := ownGuest(t, "--", "sh", "-c", "tee /tmp/all; sha256sum < /tmp/all >&2")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(data), &stderr
	// A slow reader blocks the command, and loses nothing.
	r, w := io.Pipe()
	cmd.Stdout = w
	got := make(chan [sha256.Size]byte, 1)
	go func() {
		h := sha256.New()
		io.CopyBuffer(h, struct{ io.Reader }{r}, make([]byte, 777))
		got <- [sha256.Size]byte(h.Sum(nil))
	}()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	w.Close()
	want := sha256.Sum256(data)
	if <-got != want {
		t.Error("the output differs from the input")
	}
	if !strings.Contains(stderr.String(), fmt.Sprintf("%x", want)) {
		t.Errorf("the guest saw %s, want %x", stderr.String(), want)
	}
}

func TestReaderThatGoesAwayEndsTheMachine(t *testing.T) {
	leavesNothing(t)
	cmd := ownGuest(t, "--", "yes")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if got := clitest.Code(cmd); got != 141 {
		t.Errorf("exit code %d, want that of SIGPIPE", got)
	}
}

func TestSecondRunReadsOnlyWhatItNeeds(t *testing.T) {
	dir := storeDir(t)
	opened := tracedOpens(t, ownGuest(t, "--", "true"))
	var ours []string
	for _, file := range opened {
		if rest, ok := strings.CutPrefix(file, dir+"/"); ok {
			kind, _, _ := strings.Cut(rest, "/")
			if strings.HasSuffix(rest, "/vmlinux") {
				kind = "vmlinux"
			}
			ours = append(ours, kind)
		}
	}
	if want := "kernels answers vmlinux initramfs"; strings.Join(ours, " ") != want {
		t.Errorf("in the cache it opened %q, want %s, each once", ours, want)
	}
}

// tracedOpens runs the program under strace(1) and lists the files that it opened, in order.
func tracedOpens(t *testing.T, cmd *exec.Cmd) []string {
	t.Helper()
	testenv.Need(t, "strace")
	trace := filepath.Join(t.TempDir(), "trace")
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args = append([]string{"strace", "-f", "-qq", "-e", "trace=open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2", "-e", "signal=none", "-o", trace, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = strace
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, m := range regexp.MustCompile(`(?m)"([^"]*)".*\) = \d+`).FindAllStringSubmatch(string(b), -1) {
		files = append(files, m[1])
	}
	return files
}

// TestUnusableRootIsACrash uses a disk with one MBR partition, whose file system is an
// ext4 by its magic number only.
func TestUnusableRootIsACrash(t *testing.T) {
	disk := make([]byte, 4<<20)
	copy(disk[440:], []byte{0x78, 0x56, 0x34, 0x12})             // the disk's signature
	copy(disk[446:], []byte{0, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0}) // from sector 2048
	copy(disk[446+12:], []byte{0, 8, 0, 0})                      // 2048 sectors
	disk[510], disk[511] = 0x55, 0xaa
	copy(disk[1<<20+1024+0x38:], []byte{0x53, 0xef})
	file := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(file, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	for root, want := range map[string]string{
		"PARTUUID=12345678-01": "init: mount ext4 /dev/sda1: ",
		"/dev/vda1":            "init: root=/dev/vda1: no such disk; available: sda sda1",
	} {
		t.Run(root, func(t *testing.T) {
			cmd := ownGuest(t, "--disk", file, "--cmdline", "root="+root)
			var stdout bytes.Buffer
			cmd.Stdout = &stdout
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if got := clitest.Code(cmd); got != exitCrashed || !strings.Contains(stdout.String(), want) {
				t.Errorf("exit code %d, console %q, want %d and %q", got, stdout.String(), exitCrashed, want)
			}
		})
	}
}
