package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/oci"
)

const diskFromOCIHelp = `Create a disk from a container image for linux/amd64.

IMAGE is a local path or a registry name. A path starts with /, ./, ../ or oci:, like ./app.tar, and refers to
an OCI image layout (a folder or a tar) or to an archive of docker save. oci:PATH:TAG selects one of several
images in a file. A registry name is NAME[:TAG] or NAME@DIGEST, as in docker pull. Credentials for registries
come from the docker config file, which docker login writes.

The image's command, with its user, folder and environment, is stored in the disk at /.minivmm/image.json.
minivmm's init runs it in the guest. StopSignal, ports, labels and health check of the image are ignored.

The image is unpacked into the cache once. The disk is a copy with its own UUID. --pull determines when
minivmm asks the registry which image a tag refers to: only if the tag is not in the cache (missing), each time
(always; if the registry does not respond, the cached image is used), or never (never).
`

func newDiskFromOCICommand() *cobra.Command {
	var f diskFlags
	pull := string(oci.PullMissing)
	cmd := &cobra.Command{
		Use:     "from-oci IMAGE FILE",
		Short:   "Create a disk from a container image",
		Long:    diskFromOCIHelp,
		Example: "  minivmm disk from-oci nginx:1 web.img --size 4G\n  docker save app | gzip >app.tar.gz && minivmm disk from-oci ./app.tar.gz app.img",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch oci.Policy(pull) {
			case oci.PullMissing, oci.PullAlways, oci.PullNever:
			default:
				return usageError{fmt.Errorf("invalid --pull %q: want missing, always or never", pull)}
			}
			return work(cmd.Context(), func(ctx context.Context) error {
				log := cmd.ErrOrStderr()
				c, err := openCache(log)
				if err != nil {
					return err
				}
				d, err := oci.Create(ctx, c, args[0], args[1], f.force, oci.Options{Pull: oci.Policy(pull)}, f.options(log))
				if err != nil {
					return err
				}
				c.Logf("%s: runs: %s", args[1], runs(d.Command))
				return nil
			})
		},
	}
	f.add(cmd, "size", "label", "uuid")
	cmd.Flags().StringVar(&pull, "pull", pull, "when to ask the registry: missing, always or never")
	argNames(cmd.Flags(), "pull=WHEN")
	return cmd
}

// runs describes a command in one line.
func runs(c agent.Command) string {
	what := "nothing, the image has no command"
	if len(c.Argv) > 0 {
		what = quoted(c.Argv)
	}
	return fmt.Sprintf("%s; user %s; folder %s; environment %s", what, quoted([]string{c.User}), quoted([]string{c.Dir}), quoted(c.Env))
}

// quoted quotes words with special characters: an image may contain arbitrary bytes here.
func quoted(list []string) string {
	var out []string
	for _, s := range list {
		if plain := strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+,-./:=@_%"); plain != "" || s == "" {
			s = strconv.Quote(s)
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}
