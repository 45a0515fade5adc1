package main

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
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
		got, home, err := credentialOf(c.user, users(passwdFile, groupFile))
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%q: got error %v, want %s", c.user, err, c.err)
			}
			continue
		}
		if err != nil || got.Uid != c.uid || got.Gid != c.gid || !slices.Equal(got.Groups, c.groups) || got.NoSetGroups || home != c.home {
			t.Errorf("%q: got %+v, %q, %v; want %+v", c.user, got, home, err, c)
		}
	}
}

func TestUnreadableUserFilesAreErrors(t *testing.T) {
	folder := &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	for name, root := range map[string]fs.FS{
		"passwd": fstest.MapFS{"etc/passwd": folder},
		"group":  fstest.MapFS{"etc/passwd": {Data: []byte(passwdFile)}, "etc/group": folder},
		"long":   users(strings.Repeat("x", 2<<20), ""),
		"none":   fstest.MapFS{},
	} {
		if _, _, err := credentialOf("web", root); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if c, home, err := credentialOf("12345:678", fstest.MapFS{}); err != nil || c.Uid != 12345 || c.Gid != 678 || len(c.Groups) != 0 || home != "/" {
		t.Errorf("numbers need no files: got %+v, %q, %v", c, home, err)
	}
}

// users returns a root file system with these files.
func users(passwd, group string) fs.FS {
	return fstest.MapFS{"etc/passwd": {Data: []byte(passwd)}, "etc/group": {Data: []byte(group)}}
}

func FuzzCredentialOf(f *testing.F) {
	for _, user := range []string{"", "web", "33:adm", "1000:1000", ":", "web:broken", "high"} {
		f.Add(user, passwdFile, groupFile)
	}
	f.Fuzz(func(t *testing.T, user, passwd, group string) {
		c, home, err := credentialOf(user, users(passwd, group))
		if err != nil {
			return
		}
		if c.Uid > maxID || c.Gid > maxID || home == "" || slices.ContainsFunc(c.Groups, func(g uint32) bool { return g > maxID }) {
			t.Errorf("got %+v, %q", c, home)
		}
		if name, _, _ := strings.Cut(user, ":"); !digits(name) && !strings.Contains(passwd, name+":") {
			t.Errorf("%q, which is not in passwd, got uid %d", user, c.Uid)
		}
	})
}
