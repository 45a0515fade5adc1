package main

import (
	"os"
	"slices"
	"syscall"
	"testing"

	"minivmm/guestimages/agent"
)

// prepared prepares a command that writes to output.
func prepared(t *testing.T, output *os.File, c agent.Command) (*syscall.SysProcAttr, []string) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")) // prepare changes it
	t.Chdir(".")
	c.Argv = []string{"/proc/self/exe"}
	cmd, err := prepare(c, [3]*os.File{output, output, output}, false)
	if err != nil {
		t.Fatal(err)
	}
	return cmd.SysProcAttr, cmd.Environ()
}

func TestLastValueOfAVariableCounts(t *testing.T) {
	_, got := prepared(t, nil, agent.Command{Env: slices.Concat(environment, []string{"A=1", "TERM=xterm", "PATH=/usr/bin"}, []string{"A="})})
	if want := []string{"HOME=/", "TERM=xterm", "PATH=/usr/bin", "A="}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHomeIsTheUsersUnlessTheEnvironmentSetsIt(t *testing.T) {
	if _, got := prepared(t, nil, agent.Command{Env: []string{"A=b"}, User: "0:0"}); !slices.Equal(got, []string{"HOME=/root", "A=b"}) {
		t.Errorf("got %q", got)
	}
	if _, got := prepared(t, nil, agent.Command{Env: []string{"HOME=/mine", "A=b"}, User: "0:0"}); !slices.Equal(got, []string{"HOME=/mine", "A=b"}) {
		t.Errorf("got %q", got)
	}
}

func TestProcessIsStartedAsTheUser(t *testing.T) {
	output, err := os.Create(t.TempDir() + "/output")
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	attr, env := prepared(t, output, agent.Command{Env: []string{}, User: "12345:678"})
	c := attr.Credential
	if c == nil || c.Uid != 12345 || c.Gid != 678 || len(c.Groups) != 0 || c.NoSetGroups || !attr.Setsid {
		t.Errorf("got %+v in %+v", c, attr)
	}
	if !slices.Equal(env, []string{"HOME=/"}) {
		t.Errorf("got environment %q", env)
	}
	if os.Getuid() == 0 {
		info, err := output.Stat()
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != 12345 {
			t.Errorf("the output belongs to %+v, %v", info.Sys(), err)
		}
	}
	c2 := agent.Command{Argv: []string{"/proc/self/exe"}, User: "no such user"}
	if _, err := prepare(c2, [3]*os.File{output, output, output}, false); err == nil {
		t.Error("an unknown user caused no error")
	}
}
