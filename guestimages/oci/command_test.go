package oci

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"minivmm/guestimages/agent"
)

func TestCommandOfAnImage(t *testing.T) {
	const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for what, c := range map[string]struct {
		config v1.Config
		want   agent.Command
	}{
		"rich": {richConfig, agent.Command{
			Argv: []string{"/bin/app", "--flag", "one", "two words"},
			Env:  []string{path, "GREETING=hello world", "EMPTY="},
			Dir:  "/srv/work", User: "web:www"}},
		"nothing":         {v1.Config{}, agent.Command{Env: []string{path}, Dir: "/", User: "0"}},
		"only arguments":  {v1.Config{Cmd: []string{"sh"}}, agent.Command{Argv: []string{"sh"}, Env: []string{path}, Dir: "/", User: "0"}},
		"a path":          {v1.Config{Env: []string{"A=b", "PATH=/x"}}, agent.Command{Env: []string{"A=b", "PATH=/x"}, Dir: "/", User: "0"}},
		"relative folder": {v1.Config{WorkingDir: "../a/./b/"}, agent.Command{Env: []string{path}, Dir: "/a/b", User: "0"}},
	} {
		t.Run(what, func(t *testing.T) {
			im, tree, err := treeOf(t, layoutOf(t, named{what: imageOf(t, "", c.config, layerOf(t, tarOf(t), compression.GZip))}))
			if err != nil {
				t.Fatal(err)
			}
			if got := im.Command(); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			n, ok := tree.Get(agent.ImagePath)
			if !ok {
				t.Fatalf("%s is missing", agent.ImagePath)
			}
			var stored agent.Command
			if err := json.Unmarshal(must[[]byte](t)(n.Content()), &stored); err != nil || !reflect.DeepEqual(stored, c.want) {
				t.Errorf("stored: %+v, %v", stored, err)
			}
			if n, ok := tree.Get(c.want.Dir); !ok || !n.IsDir() {
				t.Errorf("folder %s is missing", c.want.Dir)
			}
			if n.Mode != 0o100644 || !n.ModTime.Equal(when) {
				t.Errorf("got mode %o, time %v", n.Mode, n.ModTime)
			}
		})
	}
}

func TestWorkingFolderBelowALink(t *testing.T) {
	files := tarOf(t, dir("real", 0o700), symlink("alias", "real"), regular("file", "", 0), symlink(".minivmm", "/etc"))
	for _, dir := range []string{"/alias/x", "/file/x"} {
		_, tree, err := treeOf(t, layoutOf(t, named{what: imageOf(t, "", v1.Config{WorkingDir: dir}, layerOf(t, files, compression.GZip))}))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := tree.Get(dir); ok {
			t.Errorf("%s was created", dir)
		}
		if n, ok := tree.Get("real"); !ok || n.Mode != 0o40700 {
			t.Errorf("real was changed: %+v", n)
		}
		if n, ok := tree.Get(".minivmm"); !ok || !n.IsDir() {
			t.Errorf("a symbolic link redirects the command's file: %+v", n)
		}
	}
	refused(t, layoutOf(t, named{what: imageOf(t, "", v1.Config{WorkingDir: strings.Repeat("x", 300)})}), Options{}, "xxx")
}
