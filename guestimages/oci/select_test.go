package oci

import (
	"errors"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"minivmm/guestimages/filetree"
)

func TestImagesForOtherPlatforms(t *testing.T) {
	noCredentials(t)
	arm := imageOf(t, "arm64", v1.Config{})
	host := server(t, nil)
	push(t, host+"/arm", arm)
	index := indexOf(named{what: arm, platform: &v1.Platform{OS: "linux", Architecture: "arm64"}},
		named{what: arm, platform: &v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}},
		named{what: arm, platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}},
		named{what: imageOf(t, "riscv64", v1.Config{})})
	push(t, host+"/index", index)
	for image, want := range map[string]string{
		layoutOf(t, named{what: arm}): "no image for linux/amd64: available for linux/arm64",
		host + "/arm":                 "no image for linux/amd64: available for linux/arm64",
		host + "/index":               "no image for linux/amd64: available for linux/arm/v7, linux/arm64, linux/riscv64",
		layoutOf(t, named{what: imageOf(t, "", v1.Config{}), platform: &v1.Platform{OS: "windows", Architecture: "amd64"}}): "available for windows/amd64",
	} {
		if err := refused(t, image, Options{}, want); !errors.As(err, &InvalidError{}) {
			t.Errorf("%q is not an InvalidError", err)
		}
	}
}

// indexOf returns an index of images and indexes.
func indexOf(entries ...named) v1.ImageIndex {
	var adds []mutate.IndexAddendum
	for _, e := range entries {
		adds = append(adds, mutate.IndexAddendum{Add: e.what.(mutate.Appendable), Descriptor: v1.Descriptor{Platform: e.platform}})
	}
	return mutate.AppendManifests(empty.Index, adds...)
}

func TestInvalidNames(t *testing.T) {
	noCredentials(t)
	one, two := imageOf(t, "", v1.Config{}), imageOf(t, "", v1.Config{User: "x"})
	several := layoutOf(t, named{name: "v1", what: one}, named{name: "v2", what: two})
	nameless := layoutOf(t, named{what: one}, named{what: two})
	saved := savedOf(t, map[string]v1.Image{"x.test/a:v1": one, "x.test/b:v2": two})
	host := server(t, nil)
	push(t, host+"/there", one)
	for image, want := range map[string]string{
		"":                             "image name is empty",
		"oci:":                         "image name is empty",
		"/no/such/file":                "no such file or directory",
		"oci:no-such-folder:tag":       "no such file or directory",
		"./missing":                    "no such file or directory",
		"missing.tar.gz":               "looks like a file: write ./missing.tar.gz",
		"UPPER case":                   "not a valid registry name",
		t.TempDir():                    "not an OCI layout",
		several:                        `contains several images: select one with oci:PATH:TAG; available: ["v1" "v2"]`,
		nameless:                       "contains several images",
		saved:                          `contains several images: select one with oci:PATH:TAG; available: [`,
		"oci:" + several + ":v3":       `contains no image named "v3"; available: ["v1" "v2"]`,
		"oci:" + saved + ":v3":         `contains no image named "v3"`,
		layoutOf(t):                    "contains no image",
		host + "/there:v9":             "MANIFEST_UNKNOWN",
		host + "/nothing":              "NAME_UNKNOWN",
		host + "/there@sha256:" + zero: "MANIFEST_UNKNOWN",
	} {
		t.Run(image, func(t *testing.T) {
			if err := refused(t, image, Options{}, want); !errors.As(err, &InvalidError{}) {
				t.Errorf("%q is not an InvalidError", err)
			}
		})
	}
	refused(t, several, Options{Pull: "sometimes"}, `pull policy "sometimes"`)
}

var zero = strings.Repeat("0", 64)

func TestSelectOneOfSeveralImages(t *testing.T) {
	one, two := imageOf(t, "", v1.Config{Cmd: []string{"one"}}), imageOf(t, "", v1.Config{Cmd: []string{"two"}})
	amd, newer, arm := imageOf(t, "", v1.Config{Cmd: []string{"amd"}}), imageOf(t, "", v1.Config{Cmd: []string{"newer"}}), imageOf(t, "arm64", v1.Config{})
	platform := func(arch, variant string) *v1.Platform {
		return &v1.Platform{OS: "linux", Architecture: arch, Variant: variant}
	}
	index := indexOf(named{what: arm, platform: platform("arm64", "")}, named{what: newer, platform: platform("amd64", "v3")}, named{what: amd, platform: platform("amd64", "")})
	several := layoutOf(t, named{name: "v1", what: one}, named{name: "v2:x", what: two}, named{name: "many", what: index})
	saved := savedOf(t, map[string]v1.Image{"x.test/a:v1": one, "x.test/b:v2": two})
	for image, want := range map[string]string{
		"oci:" + several + ":v1":        "one",
		"oci:" + several + ":v2:x":      "two",
		"oci:" + several + ":many":      "amd",
		"oci:" + saved + ":v1":          "one",
		"oci:" + saved + ":b:v2":        "two",
		layoutOf(t, named{what: index}): "amd",
		layoutOf(t, named{name: "a", what: one}, named{name: "b", what: one}):                                               "one",
		layoutOf(t, named{what: arm, platform: platform("arm64", "")}, named{what: two, platform: platform("amd64", "v2")}): "two",
		layoutOf(t, named{what: indexOf(named{what: indexOf(named{what: arm}, named{what: amd})})}):                         "amd",
	} {
		im, err := openImage(t.Context(), image, t.TempDir(), filetree.Limits{})
		if err != nil {
			t.Error(err)
			continue
		}
		if got := im.Command().Argv; len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %q, want %q", image, got, want)
		}
		im.Close()
	}
	deep := indexOf(named{what: one})
	for range maxDepth {
		deep = indexOf(named{what: deep})
	}
	refused(t, layoutOf(t, named{what: deep}), Options{}, "indexes are nested more than")
}
