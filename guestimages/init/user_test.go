package main

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
)

const passwdFile = `root:x:0:0:root:/root:/bin/sh
# a comment
daemon:x:1:1
web:x:33:34:www:/var/www:/usr/sbin/nologin
web:x:44:44:a second one:/elsewhere:/bin/sh
1000:x:5:5:a name of digits:/five:/bin/sh
homeless:x:50:50:::
high:x:4294967295:0::/:/bin/sh
+::::::
`

const groupFile = `root:x:0:
adm:x:4:syslog,web
www-data:x:34:web
short:x
disk:x:6:web,web
broken:x:many:web
adm2:x:4:web
1001:x:7:
`

func TestCredentialOfAnImagesUser(t *testing.T) {
	for _, c := range []struct {
		user     string
		uid, gid uint32
		groups   []uint32
		home     string
		err      string
	}{
		{user: "", home: "/root"},
		{user: "0", home: "/root"},
		{user: "root", home: "/root"},
		{user: "web", uid: 33, gid: 34, groups: []uint32{4, 34, 6}, home: "/var/www"},
		{user: "33", uid: 33, gid: 34, groups: []uint32{4, 34, 6}, home: "/var/www"},
		{user: "web:", uid: 33, gid: 34, groups: []uint32{4, 34, 6}, home: "/var/www"},
		{user: "web:adm", uid: 33, gid: 4, home: "/var/www"},
		{user: "web:9", uid: 33, gid: 9, home: "/var/www"},
		{user: ":adm", gid: 4, home: "/root"},
		{user: "1000", uid: 1000, home: "/"},
		{user: "1000:1001", uid: 1000, gid: 1001, home: "/"},
		{user: "homeless", uid: 50, gid: 50, home: "/"},
		{user: "2147483647", uid: maxID, home: "/"},
		{user: "nobody", err: `user "nobody": not in /etc/passwd`},
		{user: "daemon", err: `user "daemon": not in /etc/passwd`},
		{user: "web:nogroup", err: `group "nogroup": not in /etc/group`},
		{user: "web:broken", err: `group "broken": "many" is not an id from 0 to 2147483647`},
		{user: "web:2147483648", err: `group "2147483648": "2147483648" is not an id from 0 to 2147483647`},
		{user: "high", err: `user "high": "4294967295" is not an id from 0 to 2147483647`},
		{user: "4294967296", err: `user "4294967296": "4294967296" is not an id from 0 to 2147483647`},
		{user: "-1", err: `user "-1": not in /etc/passwd`},
	} {
		uid, gid, groups, home, err := credentialOf(c.user, strings.NewReader(passwdFile), strings.NewReader(groupFile))
		text := ""
		if err != nil {
			text = err.Error()
		}
		if uid != c.uid || gid != c.gid || !slices.Equal(groups, c.groups) || home != c.home || text != c.err {
			t.Errorf("%q: got %d, %d, %v, %q, %q; want %+v", c.user, uid, gid, groups, home, text, c)
		}
	}
}

func TestUnreadableUserFilesAreErrors(t *testing.T) {
	broken := errors.New("broken")
	long := strings.NewReader(strings.Repeat("x", 2<<20))
	none := strings.NewReader("")
	for name, files := range map[string][2]io.Reader{
		"passwd": {iotest.ErrReader(broken), none},
		"group":  {strings.NewReader(passwdFile), iotest.ErrReader(broken)},
		"long":   {long, none},
	} {
		if _, _, _, _, err := credentialOf("web", files[0], files[1]); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestHomeIsTheUsersUnlessTheEnvironmentSetsIt(t *testing.T) {
	if got := withHome([]string{"A=b"}, "/h"); !slices.Equal(got, []string{"A=b", "HOME=/h"}) {
		t.Errorf("got %q", got)
	}
	if got := withHome([]string{"HOME=/mine", "A=b"}, "/h"); !slices.Equal(got, []string{"HOME=/mine", "A=b"}) {
		t.Errorf("got %q", got)
	}
	t.Setenv("HOME", "/inherited")
	if got := withHome(nil, "/h"); !slices.Contains(got, "HOME=/inherited") || slices.Contains(got, "HOME=/h") {
		t.Errorf("got %q", got)
	}
}

func TestProcessIsStartedAsTheUser(t *testing.T) {
	output, err := os.Create(t.TempDir() + "/output")
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	attr := &os.ProcAttr{Env: []string{}, Files: []*os.File{output}, Sys: &syscall.SysProcAttr{Setsid: true}}
	if err := become("12345:678", attr); err != nil {
		t.Fatal(err)
	}
	c := attr.Sys.Credential
	if c == nil || c.Uid != 12345 || c.Gid != 678 || len(c.Groups) != 0 || c.NoSetGroups || !attr.Sys.Setsid {
		t.Errorf("got %+v in %+v", c, attr.Sys)
	}
	if !slices.Equal(attr.Env, []string{"HOME=/"}) {
		t.Errorf("got environment %q", attr.Env)
	}
	if os.Getuid() == 0 {
		info, err := output.Stat()
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != 12345 {
			t.Errorf("the output belongs to %+v, %v", info.Sys(), err)
		}
	}
	if err := become("no such user", attr); err == nil {
		t.Error("an unknown user caused no error")
	}
}

func FuzzCredentialOf(f *testing.F) {
	for _, user := range []string{"", "web", "33:adm", "1000:1000", ":", "web:broken", "high"} {
		f.Add(user, passwdFile, groupFile)
	}
	f.Fuzz(func(t *testing.T, user, passwd, group string) {
		uid, gid, groups, home, err := credentialOf(user, strings.NewReader(passwd), strings.NewReader(group))
		if err != nil {
			return
		}
		if uid > maxID || gid > maxID || home == "" || slices.ContainsFunc(groups, func(g uint32) bool { return g > maxID }) {
			t.Errorf("got %d, %d, %v, %q", uid, gid, groups, home)
		}
		if name, _, _ := strings.Cut(user, ":"); !digits(name) && !strings.Contains(passwd, name+":") {
			t.Errorf("%q, which is not in passwd, got uid %d", user, uid)
		}
	})
}
