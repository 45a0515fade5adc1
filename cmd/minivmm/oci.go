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

const diskFromOCIHelp = `Make a disk of a container image for linux/amd64.

IMAGE is the path of an OCI image layout (a folder or a tar) or of an archive of docker save, which begins with
/, ./, ../ or oci:, as ./app.tar; or a name at a registry, NAME[:TAG] or NAME@DIGEST, as docker pull takes it.
oci:PATH:TAG is one of several images in a file. Credentials for registries are those of the docker config file, of docker login.

What the image runs, as which user, where and with which environment, is in the disk at /.minivmm/image.json:
minivmm's init in the guest does it. Its StopSignal, ports, labels and health check are not used.

The image is unpacked into the cache once; the disk is a copy, with a UUID of its own. --pull says when a registry is asked what a tag
means: if that is not known yet (missing), each time (always; the known image if the registry does not answer),
or not at all (never).
`

func newDiskFromOCICommand() *cobra.Command {
	var f diskFlags
	pull := string(oci.PullMissing)
	cmd := &cobra.Command{
		Use:     "from-oci IMAGE FILE",
		Short:   "Make a disk of a container image",
		Long:    diskFromOCIHelp,
		Example: "  minivmm disk from-oci nginx:1 web.img --size 4G\n  docker save app | gzip >app.tar.gz && minivmm disk from-oci ./app.tar.gz app.img",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch oci.Policy(pull) {
			case oci.PullMissing, oci.PullAlways, oci.PullNever:
			default:
				return usageError{fmt.Errorf("--pull %q is none of missing, always or never", pull)}
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
	cmd.Flags().StringVar(&pull, "pull", pull, "when a registry is asked: missing, always or never")
	argNames(cmd.Flags(), "pull=WHEN")
	return cmd
}

// runs is a command in one line that a shell would take but for the words around it.
func runs(c agent.Command) string {
	what := "nothing, the image does not say what"
	if len(c.Argv) > 0 {
		what = quoted(c.Argv)
	}
	return fmt.Sprintf("%s; user %s; folder %s; environment %s", what, quoted([]string{c.User}), quoted([]string{c.Dir}), quoted(c.Env))
}

// quoted quotes what is not plain: an image's author may have put anything there.
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
