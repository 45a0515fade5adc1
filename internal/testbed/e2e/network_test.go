package e2e

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"minivmm/internal/testbed/clitest"
)

// TestMachinesOfOneNetwork has two machines, in two processes, find each other by name. Then it
// kills one: its name must disappear while the other's network continues.
func TestMachinesOfOneNetwork(t *testing.T) {
	leavesNothing(t)
	runtime := t.TempDir()
	machine := func(name, more, script string) (*exec.Cmd, io.Reader, io.Writer, *bytes.Buffer) {
		cmd := ownGuest(t, "--name", name, "--memory", "128M", "--net", "user,network=lab"+more, "--", "sh", "-c", script)
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+runtime)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		errs := new(bytes.Buffer)
		cmd.Stderr = errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if cmd.ProcessState == nil {
				cmd.Process.Kill()
				cmd.Wait()
			}
			if t.Failed() {
				t.Logf("%s: %s", name, errs)
			}
		})
		return cmd, out, in, errs
	}
	capture := filepath.Join(runtime, "web.pcap")
	db, dbOut, _, _ := machine("db", "", "mkdir /w; yes 0123456789abcdef | head -c 300000 > /w/f; cd /w; md5sum f; echo serving; httpd -f -p 80")
	web, out, in, errs := machine("web", ",deny=192.0.2.0/24,pcap="+capture, `
read go; ping -c 1 -w 9 db > /dev/null && wget -q -O f http://db.lab.internal/f && md5sum f && echo found
read go; while nslookup db.lab.internal > /dev/null; do sleep 1; done; ! ping -c 1 -w 9 db && ping -c 1 -w 9 web > /dev/null && echo gone
ping -c 1 -w 2 192.0.2.1 > /dev/null; test $? = 1`)
	clitest.Expect(t, dbOut, "serving\n")
	io.WriteString(in, "\n")
	clitest.Expect(t, out, "55afb736abb176ea4edbdbe056416430  f\nfound\n")
	if err := db.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	db.Wait()
	io.WriteString(in, "\n")
	clitest.Expect(t, out, "gone\n")
	if got := clitest.Code(web); got != 0 {
		t.Errorf("exit code %d", got)
	}
	if !bytes.Contains(errs.Bytes(), []byte("net0: the guest may not reach 192.0.2.1")) {
		t.Errorf("the refusal is not logged: %s", errs)
	}
	if info, err := os.Stat(capture); err != nil || info.Size() < 300_000 || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
