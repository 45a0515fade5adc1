package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"minivmm/guestimages/agent"
)

// environment is the base environment of every command; HOME is added with the user.
func environment() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=linux"}
}

// merge joins environments; the last value of a variable counts.
func merge(environments ...[]string) []string {
	var all []string
	place := map[string]int{}
	for _, kv := range slices.Concat(environments...) {
		name, _, _ := strings.Cut(kv, "=")
		if at, ok := place[name]; ok {
			all[at] = kv
			continue
		}
		place[name] = len(all)
		all = append(all, kv)
	}
	return all
}

// complete fills in what a command leaves open, from the root disk's image, if the disk was made
// from one, or else from the plan. The image's environment, user and folder also apply to another
// command that runs in it.
func complete(c agent.Command, p agent.Plan) (agent.Command, error) {
	image, err := imageCommand()
	if err != nil {
		return c, err
	}
	if len(c.Argv) == 0 {
		c.Argv = image.Argv
	}
	if len(c.Argv) == 0 && p.Command != nil {
		c.Argv = p.Command.Argv
	}
	if len(c.Argv) == 0 {
		return c, errors.New("no command: none was given, and neither " + agent.ImagePath + " nor " + agent.PlanPath + " has one")
	}
	c.Env = merge(environment(), image.Env, c.Env)
	if c.Dir == "" {
		c.Dir = image.Dir
	}
	if c.User == "" {
		c.User = image.User
	}
	return c, nil
}

// imageCommand reads the command of the root disk's image. It returns the zero value if the disk
// was not made from an image.
func imageCommand() (agent.Command, error) {
	var c agent.Command
	b, err := os.ReadFile(agent.ImagePath)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("%s: %w", agent.ImagePath, err)
	}
	return c, nil
}
