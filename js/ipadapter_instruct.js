/**
 * Comfort on the page: a `task` list on the nodes with an instruction, which fills it and, on the Apply nodes
 * behind it, what the authors recommend for the loaded family; and what a node said in its last run, kept on it.
 * Nothing here is needed: it is not saved and not sent, and without this folder the nodes are whole. Tasks and figures
 * come from the server, which has the one table. No drawing, so that it works on the canvas and as Vue nodes alike.
 */
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import { APPLY, INSTRUCTED, LOADER, SPEAKING, appliesOf, isLinked, loaderOf, nodesOfKinds, widgetOf } from './graph.js'
import { addSaid, say, sayAgain } from './said.js'
import { RECOMMENDED, TaskTable, tidy } from './tasks.js'
import { ifThere, soon, withAnswer } from './there.js'

const LIST = 'task'
const OWN_WORDS = 'ipadapter_instruct.own_words' // node property: the last instruction typed by hand
const TYPED = 'ipadapter_instruct.typed' // node property: names of the widgets set by hand
const TEXTS = {
  name: 'task',
  own: 'own words',
  untrained: '⚠ not a trained task',
  plain: '⚠ takes no instruction',
  tooltip: 'Fills the instruction, and weight and guidance on Apply where you have not set them by hand.',
  menu: 'Recommended settings',
  lastRun: 'last run:'
}

let tasks // TaskTable
let filling = false // while this file sets a value, callbacks are not the user's doing
const texts = { ...TEXTS }
const PLAIN = 'plain' // stands for the family of an adapter that takes no instruction: no task is recommended for it
const families = new Map() // file name -> its family's name, null for none, or a promise while the server is asked
const taught = new Map() // file name -> a set of the instructions that this pack taught it, tidied

app.registerExtension({
  name: 'IPAdapterInstruct',

  async init() {
    const [table] = await Promise.all([getJson('/ipadapter_instruct/tasks'), translate()])
    tasks = table && new TaskTable(table)
  },

  nodeCreated(node) {
    if (SPEAKING.includes(node.comfyClass)) keepSaid(node)
    if (!tasks) return
    if (INSTRUCTED.includes(node.comfyClass)) addTaskList(node)
    if (node.comfyClass === APPLY) watchApply(node)
    if (node.comfyClass === LOADER) after(widgetOf(node, 'adapter_name'), 'callback', refreshAll)
  },

  afterConfigureGraph: refreshAll,

  getNodeMenuItems(node) {
    if (!tasks || !INSTRUCTED.includes(node.comfyClass)) return []
    return [{ content: texts.menu, callback: ifThere(node, takeRecommended) }]
  }
})

function keepSaid(node) {
  addSaid(node)
  after(node, 'onExecuted', (output) => say(node, texts.lastRun, output?.text))
  after(node, 'onConfigure', () => soon(node, sayAgain))
}

// The task list

function addTaskList(encode) {
  const choices = choicesFor(null)
  const list = encode.addWidget('combo', LIST, choices[0], ifThere(encode, choose), {
    values: choices,
    serialize: false // not sent with the prompt
  })
  list.serialize = false // not saved in the workflow
  Object.assign(list, { label: texts.name, tooltip: texts.tooltip })
  encode.widgets.splice(encode.widgets.indexOf(list), 1)
  encode.widgets.unshift(list)
  keepSavedValuesCompact(encode)
  const typed = ifThere(encode, () => filling || refresh(encode))
  after(widgetOf(encode, 'instruction'), 'callback', typed)
  for (const event of ['onAdded', 'onConfigure', 'onConnectionsChange']) after(encode, event, () => soon(encode, refresh))
}

function choicesFor(family) {
  if (family === PLAIN) return [texts.plain]
  return [...tasks.of(family).map((task) => task.name), texts.own, texts.untrained]
}

/** ComfyUI saves values by position and some versions leave a hole for a widget that is not saved. */
function keepSavedValuesCompact(node) {
  after(node, 'onSerialize', (saved) => {
    saved.widgets_values = saved.widgets_values?.filter(() => true) // which passes over holes
  })
}

function choose(encode, choice) {
  if (filling || choice === texts.plain) return
  const task = tasks.named(choice)
  if (!isLinked(encode, 'instruction')) {
    const instruction = widgetOf(encode, 'instruction')
    set(instruction, task ? task.instruction : encode.properties[OWN_WORDS] || instruction.value)
  }
  refresh(encode)
  if (task) withAnswer(encode, knownFamily, (_, family) => recommend(encode, task, family))
}

/** Show in the list what the instruction is; at once, and again when the server has told the family. */
function refresh(encode) {
  if (knownFamily(encode) instanceof Promise) show(encode, null)
  withAnswer(encode, knownFamily, show)
}

/** A task, own words, or words that the file was not trained on; or that it takes none. */
function show(encode, family) {
  const list = widgetOf(encode, LIST)
  const instruction = widgetOf(encode, 'instruction')?.value
  if (!list || instruction === undefined) return
  const task = tasks.spelledBy(instruction, family)
  if (!task && instruction) encode.properties[OWN_WORDS] = instruction
  const choices = list.options.values // changed in place: some versions do not notice a new list
  choices.splice(0, choices.length, ...choicesFor(family))
  if (family === PLAIN) return set(list, texts.plain)
  const isKnown = tasks.namedIn(instruction, family).length || taught.get(fileOf(encode))?.has(tidy(instruction))
  set(list, task?.name ?? (isKnown ? texts.own : texts.untrained))
}

function refreshAll() {
  if (tasks) for (const encode of nodesOfKinds(app.rootGraph, INSTRUCTED)) soon(encode, refresh)
}

// What Apply is recommended

/** Fill the Apply nodes behind an Encode node; what was set by hand there only if `all`. */
function recommend(encode, task, family, all = false) {
  const settings = task && tasks.recommended(task, family)
  if (!settings) return
  for (const apply of appliesOf(encode)) {
    if (all) delete apply.properties[TYPED]
    for (const name of RECOMMENDED) {
      if (!isLinked(apply, name) && (all || !isTyped(apply, name))) set(widgetOf(apply, name), settings[name])
    }
  }
}

function takeRecommended(encode) {
  withAnswer(encode, knownFamily, (_, family) => {
    const instruction = widgetOf(encode, 'instruction').value
    recommend(encode, tasks.spelledBy(instruction, family) ?? tasks.namedIn(instruction, family)[0], family, true)
  })
}

function watchApply(apply) {
  for (const name of RECOMMENDED) {
    after(widgetOf(apply, name), 'callback', () => {
      if (!filling) apply.properties[TYPED] = [...new Set([...typedNames(apply), name])].join(' ')
    })
  }
}

/** Set by hand here, or, in a file that does not tell, a value that is neither the default nor any recommended one. */
function isTyped(apply, name) {
  if (typedNames(apply).includes(name)) return true
  const value = widgetOf(apply, name).value
  return value !== defaultOf(apply, name) && !tasks.everRecommended(name).has(value)
}

function typedNames(apply) {
  return (apply.properties[TYPED] ?? '').split(' ').filter(Boolean)
}

function defaultOf(node, name) {
  const { required, optional } = node.constructor.nodeData.input
  return (required?.[name] ?? optional?.[name])?.[1]?.default
}

// Small things

/** The family of the connected adapter file: its name, null for none, or a promise of it while the server is asked. */
function knownFamily(encode) {
  const file = fileOf(encode)
  if (!file) return null
  if (!families.has(file)) families.set(file, askFamily(file))
  return families.get(file)
}

/** The name of the connected adapter file, or undefined. */
function fileOf(encode) {
  return widgetOf(loaderOf(encode) ?? {}, 'adapter_name')?.value
}

async function askFamily(file) {
  const answer = await getJson(`/ipadapter_instruct/family?adapter=${encodeURIComponent(file)}`)
  taught.set(file, new Set(answer?.instructions?.map(tidy)))
  families.set(file, answer?.takes_instruction === false ? PLAIN : answer?.family ?? null)
  return families.get(file)
}

/** Set a widget as the user would, so that every renderer shows it. */
function set(widget, value) {
  if (!widget || widget.value === value) return
  const before = filling
  filling = true
  try {
    widget.value = value
    widget.callback?.(value)
  } finally {
    filling = before
  }
  app.canvas?.setDirty(true, true)
}

/** Call `then` after an object's method, which may be absent. */
function after(object, name, then) {
  const original = object?.[name]
  if (!object) return
  object[name] = function (...values) {
    const result = original?.apply(this, values)
    then(...values)
    return result
  }
}

async function getJson(route) {
  try {
    const response = await api.fetchApi(route)
    return response.ok ? await response.json() : null
  } catch {
    return null // the nodes work without
  }
}

/** The texts of this file in the page's language, from locales/. */
async function translate() {
  const language = app.extensionManager?.setting?.get?.('Comfy.Locale') ?? 'en'
  if (language === 'en') return
  const all = await getJson('/i18n')
  Object.assign(texts, all?.[language]?.ipadapterInstruct)
}
