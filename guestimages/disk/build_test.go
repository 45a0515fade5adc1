package disk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
	"minivmm/internal/workdir"
)

// builderEnv is set in a process of this test binary that starts building an image, reports it and
// waits to be killed.
const builderEnv = "MINIVMM_TEST_BUILDER"

func TestMain(m *testing.M) {
	if path := os.Getenv(builderEnv); path != "" {
		b, err := Begin(path, true)
		if err == nil {
			_, err = b.Tree()
		}
		if err == nil {
			err = os.WriteFile(b.image(), []byte("half"), 0o600)
		}
		fmt.Println("begun:", err)
		bufio.NewReader(os.Stdin).ReadString('\n')
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// builder starts a process that builds the image at path. It returns when the build has started.
// kill kills the process.
func builder(t *testing.T, path string) (pid int, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), builderEnv+"="+path)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		cmd.Process.Kill()
		cmd.Wait()
		in.Close()
	}
	t.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "begun: <nil>\n" {
		t.Fatal(line, err)
	}
	return cmd.Process.Pid, kill
}

func TestSecondBuildIsBusy(t *testing.T) {
	dir := t.TempDir()
	image, other := filepath.Join(dir, "image"), filepath.Join(dir, "other")
	if err := os.WriteFile(image, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	pid, kill := builder(t, image)
	// A build locks the image that it replaces, or its own folder if there is no such image.
	err := Create(t.Context(), image, true, Options{SizeBytes: 1 << 20})
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d, ", pid)) {
		t.Errorf("a second build: got %v", err)
	}
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	err = Create(t.Context(), image, true, Options{SizeBytes: 1 << 20})
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), fmt.Sprintf("being built by process %d, ", pid)) {
		t.Errorf("a second build: got %v", err)
	}
	if err := Create(t.Context(), other, false, Options{SizeBytes: 1 << 20}); err != nil {
		t.Errorf("another image: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".image"+workdir.Suffix, "image")); err != nil {
		t.Errorf("the live build lost its files: %v", err)
	}
	kill()
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	if err := Create(t.Context(), other, false, Options{SizeBytes: 1 << 20}); err != nil {
		t.Errorf("another image: %v", err)
	}
	nothingIn(t, dir, "other") // the folder of the killed build was removed
}

func TestBuildAfterAKilledBuild(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	_, kill := builder(t, image)
	kill()
	if err := Create(t.Context(), image, false, Options{SizeBytes: 1 << 20}); err != nil {
		t.Error(err)
	}
	nothingIn(t, dir, "image")
}

func TestExistingFileIsKept(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	opt := Options{SizeBytes: 1 << 20}
	if err := Create(t.Context(), image, false, opt); !errors.Is(err, os.ErrExist) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("without force: got %v", err)
	}
	lock, err := Lock(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := Create(t.Context(), image, true, opt); !errors.Is(err, unix.EBUSY) {
		t.Errorf("in use: got %v", err)
	}
	lock.Close()
	if b, err := os.ReadFile(image); string(b) != "old" {
		t.Errorf("got %q, %v", b, err)
	}
	if err := Create(t.Context(), image, true, opt); err != nil {
		t.Errorf("with force: %v", err)
	}
	st, err := os.Stat(image)
	if err != nil || st.Size() != 1<<20 || st.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", st, err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("image", link); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	var input *InputError
	for _, path := range []string{link, fifo, dir} {
		if err := Create(t.Context(), path, true, opt); !errors.As(err, &input) {
			t.Errorf("%s: got %v", path, err)
		}
	}
	// A file created during the build is kept too.
	late := filepath.Join(dir, "late")
	b, err := Begin(late, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(late, []byte("late"), 0o600), os.WriteFile(b.image(), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := b.finish(t.Context(), opt); !errors.Is(err, os.ErrExist) {
		t.Errorf("late: got %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(late); string(b) != "late" {
		t.Errorf("got %q, %v", b, err)
	}
	nothingIn(t, dir, "image", "link", "fifo", "late")
}

// TestAnInterruptedBuildLeavesNothing cancels the context while a program runs. The program and its
// children must exit.
func TestAnInterruptedBuildLeavesNothing(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	started := filepath.Join(bin, "started")
	if err := unix.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	program := fmt.Sprintf("#!/bin/sh\nfor last; do :; done\nsleep 1000 &\necho $$ $! > '%s'\nwait\n", started)
	if err := os.WriteFile(filepath.Join(bin, "mke2fs"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	tree, err := filetree.New(t.TempDir(), filetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	done := make(chan error, 1)
	go func() {
		done <- FromTree(ctx, tree, filepath.Join(dir, "image"), false, Options{SizeBytes: 16 << 20})
	}()
	line, err := os.ReadFile(started) // waits for the program
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("interrupted")
	stop(cause)
	if err := <-done; !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	nothingIn(t, dir)
	for _, word := range strings.Fields(string(line)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		// FromTree waits for the shell only: the kernel may still be ending the process that it
		// started.
		for start := time.Now(); processState(pid) != "" && processState(pid) != "Z"; time.Sleep(time.Millisecond) {
			if time.Since(start) > 10*time.Second {
				t.Errorf("process %d still exists in state %s", pid, processState(pid))
				syscall.Kill(pid, syscall.SIGKILL)
				break
			}
		}
	}
}

// processState returns the state in /proc/PID/stat, or "" if the process does not exist.
func processState(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:1]
}

func TestCreate(t *testing.T) {
	for _, tt := range []struct {
		opt  Options
		want string
	}{
		{Options{SizeBytes: 1 << 40}, ""},
		{Options{SizeBytes: 1 << 34, FS: Ext4, Label: "exactly 16 bytes"}, ""},
		{Options{SizeBytes: 8 << 20, FS: Ext4}, ""},
		{Options{}, "needs a size"},
		{Options{SizeBytes: 1000}, "multiple of 4096 (4K)"},
		{Options{SizeBytes: 1 << 20, FS: Ext4}, "too small for ext4"},
		{Options{SizeBytes: 1 << 30, FS: "xfs"}, `unknown file system "xfs": want "ext4" or "erofs"`},
		{Options{SizeBytes: 1 << 30, FS: Erofs}, "erofs is read-only"},
		{Options{SizeBytes: 1 << 30, Label: "x"}, "a label needs a file system"},
		{Options{SizeBytes: 1 << 30, FS: Ext4, Label: "more than 16 bytes"}, "too long"},
		{Options{SizeBytes: 1 << 30, FS: Ext4, Label: "new\nline"}, "control characters"},
		{Options{SizeBytes: 1 << 30, FS: Ext4, UUID: "1234"}, "not a valid UUID"},
	} {
		dir := t.TempDir()
		image := filepath.Join(dir, "image")
		err := Create(t.Context(), image, false, tt.opt)
		if tt.want != "" {
			var input *InputError
			if !errors.As(err, &input) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v: got %v, want %s", tt.opt, err, tt.want)
			}
			nothingIn(t, dir)
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", tt.opt, err)
			continue
		}
		nothingIn(t, dir, "image")
		info, err := Inspect(image)
		if err != nil || info.SizeBytes != tt.opt.SizeBytes || info.FS != string(tt.opt.FS) || info.Label != tt.opt.Label || info.UsedBytes > 6<<20 {
			t.Errorf("%+v: got %+v, %v", tt.opt, info, err)
		}
		if tt.opt.FS == Ext4 {
			toolOutput(t, "", "e2fsck", "-fn", image)
		}
	}
}

func TestATreeThatDoesNotFit(t *testing.T) {
	tree, err := filetree.New(t.TempDir(), filetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(t.TempDir(), "big")
	noise := make([]byte, 9<<20)
	for i := range noise {
		noise[i] = byte(i*i>>8) | 1
	}
	if err := os.WriteFile(big, noise, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tree.AddList(t.Context(), strings.NewReader("file big "+big+" 644 0 0"), ""); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	for size, fits := range map[int64]bool{4 << 20: false, 8 << 20: false, 10 << 20: false, 18 << 20: true, 0: true} {
		err := FromTree(t.Context(), tree, image, true, Options{SizeBytes: size})
		var input *InputError
		if fits != (err == nil) || !fits && (!errors.As(err, &input) || !strings.Contains(err.Error(), "(18M)")) {
			t.Errorf("%d bytes: got %v", size, err)
		}
		if !fits {
			nothingIn(t, dir, "image")
		}
	}
}

func TestADifferentDiskHasAnotherUUID(t *testing.T) {
	tree := strange(t, Ext4)
	seen := map[string]Options{}
	for _, opt := range []Options{{FS: Ext4}, {FS: Erofs}, {FS: Ext4, Label: "x"}, {FS: Ext4, SizeBytes: 1 << 30}} {
		id := treeUUID(tree, opt)
		if old, ok := seen[id]; ok || !matches(uuidForm, id) || id != treeUUID(tree, opt) {
			t.Errorf("%+v and %+v both have %s", opt, old, id)
		}
		seen[id] = opt
	}
	before := treeUUID(tree, Options{})
	if err := tree.Put(filetree.Node{Path: "one more", Mode: unix.S_IFDIR | 0o755}, nil); err != nil {
		t.Fatal(err)
	}
	if treeUUID(tree, Options{}) == before {
		t.Error("another tree has the same UUID")
	}
}

// As root the test shows nothing, because root may read every file.
func TestErrorNamesAnUnreadableFile(t *testing.T) {
	if os.Geteuid() == 0 {
		return
	}
	src, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "secret"), nil, 0); err != nil {
		t.Fatal(err)
	}
	tree, err := filetree.New(t.TempDir(), filetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.AddDir(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	if err := FromTree(t.Context(), tree, filepath.Join(dir, "image"), false, Options{}); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
	nothingIn(t, dir)
}
