/**
 * What the table of trained tasks says about an instruction. Pure: no page, no graph.
 *
 * ComfyUI loads every .js file here by itself; this one only defines things.
 *
 * @typedef {{weight: number, cfg: number, instruct_guidance: number, image_guidance: number}} Settings
 * @typedef {{name: string, instruction: string, keywords: string[], families: Record<string, Settings>}} Task
 */

/** The widgets of Apply that a task has a recommendation for. */
export const RECOMMENDED = ['guidance', 'weight', 'instruct_guidance', 'image_guidance']

export class TaskTable {
  /** @param {{tasks: Task[]}} table what the server's task route gives */
  constructor({ tasks }) {
    this.tasks = tasks
  }

  /** The tasks a family was trained on; all of them while the family is unknown. */
  of(family) {
    return family ? this.tasks.filter((task) => family in task.families) : this.tasks
  }

  named(name) {
    return this.tasks.find((task) => task.name === name)
  }

  /** The tasks that the instruction names in whatever words, of those that the family was trained on. */
  namedIn(instruction, family) {
    const words = tidy(instruction)
    return this.of(family).filter((task) => task.keywords.some((word) => words.includes(word)))
  }

  /** What a task recommends for a family, by the names of Apply's widgets, or undefined. */
  recommended(task, family) {
    const settings = task.families[family]
    return settings && { ...settings, guidance: 'auto' }
  }

  /** Every value that some task recommends for a widget: such a value is not taken for typed by hand. */
  everRecommended(widgetName) {
    const all = this.tasks.flatMap((task) => Object.keys(task.families).map((family) => this.recommended(task, family)))
    return new Set(all.map((settings) => settings[widgetName]))
  }
}

/** Small letters, and no space around them: how instructions are compared. */
export function tidy(text) {
  return String(text ?? '').trim().toLowerCase()
}
