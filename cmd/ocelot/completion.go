package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCmd prints a script that completes commands, flags and the values of flags.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is what --help adds.
func (*completionCmd) Help() string {
	return `Have your shell read the script when it starts:

  bash  source <(ocelot completion bash)
  zsh   source <(ocelot completion zsh)
  fish  ocelot completion fish | source`
}

// Run prints the script.
func (c *completionCmd) Run(con *console, app *kong.Kong) error {
	words := completions(app.Model)
	var err error
	switch c.Shell {
	case "fish":
		err = fishScript(con.out, words)
	case "zsh":
		_, err = io.WriteString(con.out, "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n")
		if err == nil {
			err = bashScript(con.out, words)
		}
	default:
		err = bashScript(con.out, words)
	}
	return err
}

// commandWords are the words that can follow a command.
type commandWords struct {
	name, help string
	flags      []flagWords
	// values of the argument, if they are known
	values []string
}

type flagWords struct {
	name, help string
	values     []string // nil: any
	takesValue bool
}

func completions(app *kong.Application) []commandWords {
	var all []commandWords
	for _, node := range app.Children {
		c := commandWords{name: node.Name, help: node.Help}
		c.addFlags(node)
		for _, child := range node.Children {
			c.values = append(c.values, child.Name)
			c.addFlags(child)
		}
		slices.SortFunc(c.flags, func(a, b flagWords) int { return strings.Compare(a.name, b.name) })
		for _, argument := range node.Positional {
			if argument.Enum != "" {
				c.values = argument.EnumSlice()
			}
		}
		all = append(all, c)
	}
	return all
}

// addFlags adds the flags of a command or of one of its parts, each once.
func (c *commandWords) addFlags(node *kong.Node) {
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			f := flagWords{name: "--" + flag.Name, help: flag.Help, takesValue: !flag.IsBool()}
			if slices.ContainsFunc(c.flags, func(known flagWords) bool { return known.name == f.name }) {
				continue
			}
			if flag.Enum != "" {
				f.values = flag.EnumSlice()
			}
			c.flags = append(c.flags, f)
		}
	}
}

// bashScript completes by the words before the cursor. Where a flag or an argument can have any
// value, it completes files.
func bashScript(out io.Writer, commands []commandWords) error {
	var b strings.Builder
	var names []string
	for _, c := range commands {
		names = append(names, c.name)
	}
	fmt.Fprintf(&b, `_ocelot() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words=
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "%s help --help --version" -- "$word"))
    return
  fi
  case "${COMP_WORDS[1]} $before" in
`, strings.Join(names, " "))
	for _, c := range commands {
		for _, f := range c.flags {
			if f.values != nil {
				fmt.Fprintf(&b, "  \"%s %s\") words=\"%s\" ;;\n", c.name, f.name, strings.Join(f.values, " "))
			}
		}
	}
	b.WriteString("  *)\n    case \"${COMP_WORDS[1]}\" in\n")
	for _, c := range commands {
		var words []string
		for _, f := range c.flags {
			words = append(words, f.name)
		}
		fmt.Fprintf(&b, "    %s) words=\"%s\" ;;\n", c.name, strings.Join(append(words, c.values...), " "))
	}
	fmt.Fprintf(&b, "    help) words=\"%s\" ;;\n", strings.Join(names, " "))
	b.WriteString(`    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _ocelot ocelot
`)
	_, err := io.WriteString(out, b.String())
	return err
}

func fishScript(out io.Writer, commands []commandWords) error {
	var b strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&b, "complete -c ocelot -n __fish_use_subcommand -f -a %s -d %s\n", c.name, fishQuoted(c.help))
		for _, f := range c.flags {
			fmt.Fprintf(&b, "complete -c ocelot -n '__fish_seen_subcommand_from %s' -l %s -d %s", c.name, strings.TrimPrefix(f.name, "--"), fishQuoted(f.help))
			if f.takesValue {
				b.WriteString(" -r")
			}
			if f.values != nil {
				fmt.Fprintf(&b, " -f -a %s", fishQuoted(strings.Join(f.values, " ")))
			}
			b.WriteString("\n")
		}
		if c.values != nil {
			fmt.Fprintf(&b, "complete -c ocelot -n '__fish_seen_subcommand_from %s' -f -a %s\n", c.name, fishQuoted(strings.Join(c.values, " ")))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func fishQuoted(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}
