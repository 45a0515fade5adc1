package control

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/internal/userdir"
	"minivmm/vmm/account"
)

func TestNames(t *testing.T) {
	dir := shortDir(t)
	for _, name := range []string{"", "-a", "a/b", "..", "A", "a b", strings.Repeat("a", 65)} {
		if _, err := claim([]string{dir}, name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
		if _, _, err := callName([]string{dir}, name, Request{}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("call %q: %v", name, err)
		}
	}
	f := &fake{about: account.Machine{PID: 4711}} // as the machine sees it
	serve(t, []string{dir}, "web", f)
	_, err := claim([]string{dir}, "web")
	var taken *TakenError
	if !errors.As(err, &taken) || taken.PID != os.Getpid() || !errors.Is(err, unix.EBUSY) {
		t.Errorf("a taken name: %v", err)
	}
	_, _, err = callName([]string{dir}, "wbe", Request{Command: CommandAbout})
	var missing *NotRunningError
	if !errors.As(err, &missing) || err.Error() != `no machine named "wbe" is running (running: web)` {
		t.Errorf("an unknown name: %v", err)
	}
	// A machine that is starting: locked, without a socket.
	n, err := claim([]string{dir}, "db")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim([]string{dir}, "db"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("the name of a starting machine: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// TestOneNameInAllDirectories checks that two machines of one user cannot have the same name if
// their environments give them different preferred directories.
func TestOneNameInAllDirectories(t *testing.T) {
	dir := shortDir(t)
	session, tmp := filepath.Join(dir, "session"), filepath.Join(dir, "tmp")
	with, without := []string{session, tmp}, []string{filepath.Join(dir, "no/such"), tmp}
	serve(t, without, "web", &fake{})
	end := serve(t, with, "db", &fake{})
	for _, candidates := range [][]string{with, without} {
		for _, name := range []string{"web", "db"} {
			_, err := claim(candidates, name)
			var taken *TakenError
			// A machine that is only in the other's directories cannot be asked.
			if asked := name == "web" || candidates[0] == session; !errors.As(err, &taken) || (taken.PID == os.Getpid()) != asked {
				t.Errorf("%s in %v: %v", name, candidates, err)
			}
		}
	}
	if found := find(with); len(found) != 2 || found[0].Name != "db" || found[1].Name != "web" {
		t.Errorf("found %+v", found)
	}
	end()
	n, err := claim(without, "db")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(dir + "/*/db*"); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
}

// TestConcurrentClaimsAreExclusive claims and releases a name in several goroutines: no two have it
// at the same time.
func TestConcurrentClaimsAreExclusive(t *testing.T) {
	dir := shortDir(t)
	candidates := [][]string{{dir}, {filepath.Join(dir, "session"), dir}}
	var holders sync.Mutex
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				n, err := claim(candidates[i%2], "web")
				if errors.Is(err, unix.EBUSY) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if !holders.TryLock() {
					t.Error("two machines have the name")
					return
				}
				mu.Lock()
				won++
				mu.Unlock()
				holders.Unlock()
				if err := n.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if won == 0 {
		t.Error("no machine got the name")
	}
}

// TestOneOfTwoClaimsSucceeds checks that one of two claims gets the name, whatever order each
// searches the directories in.
func TestOneOfTwoClaimsSucceeds(t *testing.T) {
	dir := shortDir(t)
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	orders := [][]string{{a, b}, {b, a}}
	for _, candidates := range orders {
		if _, err := userdir.Make(candidates); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 500 {
		var names [2]*Name
		var errs [2]error
		var wg sync.WaitGroup
		for i := range names {
			wg.Go(func() { names[i], errs[i] = claim(orders[i], "web") })
		}
		wg.Wait()
		won := 0
		for i, n := range names {
			if n == nil {
				if !errors.Is(errs[i], unix.EBUSY) {
					t.Fatal(errs[i])
				}
				continue
			}
			won++
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if won != 1 {
			t.Fatalf("round %d: %d have the name, %v", round, won, errs)
		}
	}
}

// killedVar makes the test binary a machine that waits to be killed.
const killedVar = "MINIVMM_TEST_KILLED"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedVar); dir != "" {
		n, err := claim([]string{dir}, "web")
		if err == nil {
			_, err = n.Serve(&fake{})
		}
		fmt.Println(err)
		select {}
	}
	os.Exit(m.Run())
}

// TestNameOfAKilledMachineIsFree kills a machine and claims its name.
func TestNameOfAKilledMachineIsFree(t *testing.T) {
	dir := shortDir(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), killedVar+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if found := find([]string{dir}); line != "<nil>\n" || len(found) != 1 {
		t.Errorf("the other machine: %q; found %+v", line, found)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if _, err := os.Lstat(filepath.Join(dir, "web.sock")); err != nil {
		t.Errorf("the killed machine left no socket: %v", err)
	}
	if found := find([]string{dir}); len(found) != 0 {
		t.Errorf("found %+v", found)
	}
	var missing *NotRunningError
	if _, _, err := callName([]string{dir}, "web", Request{Command: CommandAbout}); !errors.As(err, &missing) {
		t.Errorf("call: %v", err)
	}
	serve(t, []string{dir}, "web", &fake{about: account.Machine{PID: 1}})
	if found := find([]string{dir}); len(found) != 1 || found[0].About.PID != os.Getpid() {
		t.Errorf("found %+v after the next claim", found)
	}
}
