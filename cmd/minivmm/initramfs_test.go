package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
	"github.com/klauspost/compress/zstd"

	"minivmm/guestimages/cache"
	"minivmm/internal/testbed/clitest"
	"minivmm/internal/testbed/testenv"
)

// initramfsProgram returns minivmm initramfs in a folder with possible sources: a folder, lists,
// tars and kernel modules.
func initramfsProgram(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := program(t, "", append([]string{"initramfs"}, args...)...)
	tmp := filepath.Join(t.TempDir(), "tmp")
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp, cache.Env+"="+filepath.Join(tmp, "cache"))
	at := func(name string) string { return filepath.Join(cmd.Dir, name) }
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"root/from-tar", "etc/name"} {
		if err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Uid: 5, Gid: 6, Size: 3}), func() error { _, err := io.WriteString(w, "tar"); return err }()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(),
		os.Mkdir(tmp, 0o700),
		os.MkdirAll(at("root/etc"), 0o755), os.WriteFile(at("root/etc/name"), []byte("dir"), 0o644), os.Chmod(at("root/etc"), 0o755), os.Chmod(at("root/etc/name"), 0o644),
		os.WriteFile(at("files.list"), []byte("file /etc/name root/etc/name 0640 1 2 /other\nnod /dev/null 0666 0 0 c 1 3\n"), 0o644),
		os.WriteFile(at("bad.list"), []byte("# one\nfile /a\n"), 0o644),
		os.WriteFile(at("files.tar"), b.Bytes(), 0o644),
		os.WriteFile(at("half.tar"), b.Bytes()[:514], 0o644),
		os.MkdirAll(at("mods/k"), 0o755),
		os.WriteFile(at("mods/modules.dep"), []byte("k/a.ko: k/b.ko\nk/b.ko:\nk/c.ko: k/none.ko\nk/gone.ko:\n"), 0o644),
		os.WriteFile(at("mods/k/a.ko"), []byte("module a"), 0o644), os.WriteFile(at("mods/k/b.ko"), []byte("module b"), 0o644), os.WriteFile(at("mods/k/c.ko"), nil, 0o644),
	); err != nil {
		t.Fatal(err)
	}
	// Nothing may be left in the folder for temporary files, whatever happens.
	t.Cleanup(func() {
		if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
			t.Errorf("%v was left in the folder for temporary files, %v", left, err)
		}
	})
	return cmd
}

// archives lists the files of concatenated archives.
func archives(t *testing.T, b []byte) []string {
	t.Helper()
	var all []string
	in := bytes.NewReader(b)
	for in.Len() > 0 {
		r := cpio.NewReader(in)
		for {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("%s %o %d:%d %q", h.Name, uint32(h.Mode), h.Uid, h.Guid, data))
		}
		// The next archive starts at a multiple of 4.
		at := (int64(len(b)-in.Len()) + 3) &^ 3
		if _, err := in.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestInitramfs(t *testing.T) {
	owner := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	for _, tt := range []struct {
		name, args string
		want       []string
	}{
		{"a folder", "--dir root", []string{"etc 40755 " + owner + ` ""`, "etc/name 100644 " + owner + ` "dir"`}},
		{"another owner", "--dir root --owner 7:8", []string{`etc 40755 7:8 ""`, `etc/name 100644 7:8 "dir"`}},
		{"a list", "--list files.list", []string{`dev 40755 0:0 ""`, `dev/null 20666 0:0 ""`, `etc 40755 0:0 ""`, `etc/name 100640 1:2 ""`, `other 100640 1:2 "dir"`}},
		{"the last wins", "--dir root --tar files.tar --owner 0:0", []string{`etc 40755 0:0 ""`, `etc/name 100600 5:6 "tar"`, `root 40755 0:0 ""`, `root/from-tar 100600 5:6 "tar"`}},
		{"the last wins, reversed", "--tar files.tar --dir root --owner 0:0", []string{`etc 40755 0:0 ""`, `etc/name 100644 0:0 "dir"`, `root 40755 0:0 ""`, `root/from-tar 100600 5:6 "tar"`}},
		{"modules", "--dir root --owner 0:0 --modules a --kernel-modules mods", []string{`etc 40755 0:0 ""`, `etc/name 100644 0:0 "dir"`,
			`modules 40755 0:0 ""`, `modules/a.ko 100644 0:0 "module a"`, `modules/b.ko 100644 0:0 "module b"`, `modules/order 100644 0:0 "/modules/b.ko\n/modules/a.ko\n"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var files [2][]byte
			for i, out := range []string{"out.cpio", "-"} {
				cmd := initramfsProgram(t, append(strings.Fields(tt.args), "-o", out)...)
				code, stdout, errs := clitest.Finish(t, cmd)
				if code != 0 || errs != "" {
					t.Fatalf("exit code %d: %s", code, errs)
				}
				files[i] = []byte(stdout)
				if out != "-" {
					b, err := os.ReadFile(filepath.Join(cmd.Dir, out))
					if err != nil || stdout != "" {
						t.Fatalf("stdout %q, %v", stdout, err)
					}
					files[i] = b
				}
			}
			if !bytes.Equal(files[0], files[1]) {
				t.Error("two runs produced different bytes")
			}
			if got := archives(t, files[0]); !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

func TestInitramfsFromStdin(t *testing.T) {
	for _, tt := range []struct{ kind, stdin, want string }{
		{"--tar", "files.tar", "from-tar"},
		{"--list", "files.list", "other"},
	} {
		cmd := initramfsProgram(t, tt.kind, "-", "-o", "-")
		f, err := os.Open(filepath.Join(cmd.Dir, tt.stdin))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.Stdin = f
		if code, out, errs := clitest.Finish(t, cmd); code != 0 || !strings.Contains(out, tt.want) {
			t.Errorf("exit code %d: %s", code, errs)
		}
	}
}

func TestInitramfsCompressionIsReproducible(t *testing.T) {
	_, plain, _ := clitest.Finish(t, initramfsProgram(t, "--dir", "root", "-o", "-"))
	for format, unpack := range map[string]func(io.Reader) (io.Reader, error){
		"none": func(r io.Reader) (io.Reader, error) { return r, nil },
		"gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"zstd": func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	} {
		args := []string{"--dir", "root", "-o", "-", "--compress", format}
		code, first, errs := clitest.Finish(t, initramfsProgram(t, args...))
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, errs)
		}
		if _, second, _ := clitest.Finish(t, initramfsProgram(t, args...)); first != second {
			t.Errorf("%s: two runs produced different bytes", format)
		}
		r, err := unpack(strings.NewReader(first))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != plain {
			t.Errorf("%s: got %d bytes, %v, want the %d uncompressed bytes", format, len(got), err, len(plain))
		}
	}
}

func TestInitramfsWithInit(t *testing.T) {
	testenv.Need(t, "compiler")
	cmd := initramfsProgram(t, "--dir", "root", "--owner", "0:0", "--init", "--modules", "a", "--kernel-modules", "mods", "-o", "-", "--", "/bin/prog", "-v")
	cmd.Env = append(cmd.Env, cache.Env+"="+t.TempDir())
	code, out, errs := clitest.Finish(t, cmd)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	var all []string
	for _, line := range archives(t, []byte(out)) {
		if strings.HasPrefix(line, "init 100755 0:0 \"\\x7fELF") {
			line = "the init"
		}
		all = append(all, line)
	}
	for _, want := range []string{
		"the init", `dev/console 20600 0:0 ""`, `etc/name 100644 0:0 "dir"`, `modules/a.ko 100644 0:0 "module a"`,
		fmt.Sprintf("init.json 100644 0:0 %q", `{"modules":["/modules/b.ko","/modules/a.ko"],"command":{"argv":["/bin/prog","-v"]}}`),
	} {
		if !slices.Contains(all, want) {
			t.Errorf("%q is missing in\n%s", want, strings.Join(all, "\n"))
		}
	}
}

func TestInitramfsErrors(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		err  string
	}{
		{"--dir root", 2, "no output file: set it with -o FILE"},
		{"-o out", 2, "no content: use"},
		{"-o out root", 2, `unknown argument "root"`},
		{"-o out --dir root extra -- cmd", 2, `unknown argument "extra"`},
		{"-o out --dir root -- cmd", 2, "COMMAND requires --init"},
		{"-o out --dri root", 2, `did you mean "--dir"?`},
		{"-o out --dir=", 2, "the name is empty"},
		{"-o root/etc/out --dir root", 2, "output root/etc/out is inside its source /"},
		{"-o ./out --dir .", 2, "output ./out is inside its source"},
		{"-o out --tar - --list -", 2, "only one source can read from stdin"},
		{"-o out --modules a", 2, "--modules must be used together with --kernel or --kernel-modules"},
		{"-o out --dir root --kernel-modules mods", 2, "--modules must be used together"},
		{"-o out --dir root --kernel 6.12", 2, "--modules must be used together"},
		{"-o out --modules a --kernel 6.12 --kernel-modules mods", 2, "exclude each other"},
		{"-o out --modules a --kernel 6.12", 3, "minivmm kernel fetch 6.12"},
		{"-o out --dir root --owner root", 2, "want UID:GID"},
		{"-o out --dir root --owner 1:4294967296", 2, "want UID:GID"},
		{"-o out --dir root --compress lzma", 2, "want none, gzip or zstd"},
		{"-o out --dir absent", 3, "absent: no such file or directory"},
		{"-o out --dir files.tar", 3, "files.tar: not a directory"},
		{"-o out --tar absent", 3, "open absent: no such file or directory"},
		{"-o out --tar half.tar", 3, `half.tar: filetree: tar: entry "root/from-tar": unexpected EOF`},
		{"-o out --tar files.list", 3, "files.list: filetree: tar:"},
		{"-o out --list bad.list", 3, "bad.list:2: file: got 1 arguments, want NAME LOCATION"},
		{"-o out --modules a,no_such --kernel-modules mods", 3, "no_such"},
		{"-o out --modules c --kernel-modules mods", 3, "none"},
		{"-o out --modules gone --kernel-modules mods", 3, "gone.ko"},
		{"-o out --modules a --kernel-modules root", 3, "modules.dep: no such file"},
		{"-o absent/out --dir root", 3, "absent: no such file or directory"},
		{"-o root --list files.list", 3, "root exists and is not a regular file"},
	} {
		cmd := initramfsProgram(t, strings.Fields(tt.args)...)
		before := listing(t, cmd.Dir)
		code, out, errs := clitest.Finish(t, cmd)
		if code != tt.code || out != "" || !strings.Contains(errs, tt.err) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q; want %d and %q", tt.args, code, out, errs, tt.code, tt.err)
		}
		if after := listing(t, cmd.Dir); !slices.Equal(before, after) {
			t.Errorf("%s: got files %q, want %q", tt.args, after, before)
		}
	}
}

func listing(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// The signal arrives while the program reads its standard input: it has read more than a pipe
// holds.
func TestInitramfsInterrupted(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := initramfsProgram(t, "--tar", "-", "-o", "out")
		before := listing(t, cmd.Dir)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w := tar.NewWriter(in)
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1 << 30}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		hung := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		cmd.Wait()
		hung.Stop()
		if code := cmd.ProcessState.ExitCode(); code != exitSignal+int(sig) || !strings.Contains(errs.String(), "stopped by signal "+sig.String()) {
			t.Errorf("%v: exit code %d, %s", sig, code, errs.String())
		}
		if after := listing(t, cmd.Dir); !slices.Equal(before, after) {
			t.Errorf("%v: got files %q, want %q", sig, after, before)
		}
	}
}
