/**
 * Comfort on the page: a chosen task fills the instruction and, on the Apply nodes behind it, what the authors recommend
 * for the loaded family; the instruction is greyed where it does not count; what a node said in its last run stays on it.
 * Nothing here is needed: without this folder the nodes are whole. Tasks and figures come from the server, which has the
 * one table. No drawing, so that it works on the canvas and as Vue nodes alike.
 */
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import { APPLY, ENCODE, LOADER, appliesOf, isLinked, loaderOf, nodesOfKind, widgetOf } from './graph.js'
import { keepWords } from './status_text.js'
import { RECOMMENDED, TaskTable, tidy } from './tasks.js'
import { ifThere, later, withAnswer } from './there.js'

const OWN = 'own words' // the choice of the task list with which the instruction counts
const OWN_WORDS = 'ipadapter_instruct.own_words' // node property: the last instruction typed by hand
const TYPED = 'ipadapter_instruct.typed' // node property: names of the widgets set by hand

const texts = {
  untrained: '⚠ not a trained task',
  plain: '⚠ takes no instruction',
  menu: 'Recommended settings',
  lastRun: 'last run:'
}
const files = new Map() // name of an adapter file -> a promise of what the server says of it
let tasks // TaskTable
let showWords = () => {}
let filling = false // while this file sets a value, callbacks are not the user's doing

app.registerExtension({
  name: 'IPAdapterInstruct.page',

  async init() {
    const [table] = await Promise.all([getJson('/ipadapter_instruct/tasks'), translate()])
    tasks = table && new TaskTable(table)
    showWords = keepWords(texts.lastRun)
  },

  nodeCreated(node) {
    if (!tasks) return
    if (node.comfyClass === ENCODE) watchEncode(node)
    if (node.comfyClass === APPLY) watchApply(node)
    if (node.comfyClass === LOADER) after(widgetOf(node, 'adapter_name'), 'callback', refreshAll)
  },

  afterConfigureGraph() {
    refreshAll()
    showWords()
  },

  onNodeOutputsUpdated: () => showWords(), // of a workflow that is opened again

  getNodeMenuItems(node) {
    if (!tasks || node.comfyClass !== ENCODE) return []
    return [{ content: texts.menu, callback: ifThere(node, () => withFile(node, takeRecommended)) }]
  }
})

// The task

function watchEncode(encode) {
  const again = ifThere(encode, refresh)
  after(widgetOf(encode, 'task'), 'callback', ifThere(encode, choose))
  after(widgetOf(encode, 'instruction'), 'callback', () => filling || again())
  for (const event of ['onAdded', 'onConfigure', 'onConnectionsChange']) after(encode, event, () => later(again))
}

function choose(encode) {
  if (filling) return
  const task = tasks.named(widgetOf(encode, 'task').value)
  const instruction = widgetOf(encode, 'instruction')
  if (!isLinked(encode, 'instruction')) {
    set(instruction, task ? task.instruction : encode.properties[OWN_WORDS] || instruction.value)
  }
  refresh(encode)
  withFile(encode, (_, file) => recommend(encode, task, file))
}

function refreshAll() {
  if (tasks) later(() => nodesOfKind(ENCODE).forEach(refresh))
}

/** Grey the instruction where the task's own words count, and mark on the list what the file was not trained on. */
function refresh(encode) {
  const [list, instruction] = ['task', 'instruction'].map((name) => widgetOf(encode, name))
  if (!list || !instruction) return
  if (list.value === OWN && instruction.value) encode.properties[OWN_WORDS] = instruction.value
  const isGreyed = list.value !== OWN && !isLinked(encode, 'task') // below a link lies what does not count
  instruction.disabled = isGreyed // on the canvas
  instruction.options.disabled = isGreyed // as a Vue node
  withFile(encode, (_, file) => {
    const warning = warningFor(encode, file)
    list.ownLabel ??= list.label ?? list.name
    list.label = warning ? `${list.ownLabel} (${warning})` : list.ownLabel
    app.canvas.setDirty(true, true)
  })
}

/** file: what the server says of it; null for an adapter that was just trained, or none yet, of which nothing is known. */
function warningFor(encode, file) {
  if (file?.isPlain) return texts.plain
  if (!file || isLinked(encode, 'task')) return ''
  const task = tasks.named(widgetOf(encode, 'task').value)
  if (task) return tasks.of(file.family).includes(task) ? '' : texts.untrained
  const words = widgetOf(encode, 'instruction').value
  const isKnown = tasks.namedIn(words, file.family).length || file.trained.has(tidy(words))
  return isKnown || isLinked(encode, 'instruction') ? '' : texts.untrained
}

// What Apply is recommended

/** Fill the Apply nodes behind an Encode node; what was set by hand there only if `all`. */
function recommend(encode, task, file, all = false) {
  const settings = task && file && !file.isPlain && tasks.recommended(task, file.family)
  if (!settings) return
  for (const apply of appliesOf(encode)) {
    if (all) delete apply.properties[TYPED]
    for (const name of RECOMMENDED) {
      if (!isLinked(apply, name) && (all || !isTyped(apply, name))) set(widgetOf(apply, name), settings[name])
    }
  }
}

function takeRecommended(encode, file) {
  const [chosen, words] = ['task', 'instruction'].map((name) => widgetOf(encode, name).value)
  recommend(encode, tasks.named(chosen) ?? tasks.namedIn(words, file?.family)[0], file, true)
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

/** Do work(encode, file) with what the server says of the connected adapter file, unless that has been exchanged by then. */
function withFile(encode, work) {
  const name = nameOf(encode)
  if (name && !files.has(name)) files.set(name, askAbout(name))
  const asked = files.get(name) ?? Promise.resolve(null)
  withAnswer(encode, asked, (_, file) => nameOf(encode) === name && work(encode, file))
}

function nameOf(encode) {
  return widgetOf(loaderOf(encode) ?? {}, 'adapter_name')?.value
}

async function askAbout(name) {
  const answer = await getJson(`/ipadapter_instruct/family?adapter=${encodeURIComponent(name)}`)
  return {
    family: answer?.family ?? null,
    isPlain: answer?.takes_instruction === false,
    trained: new Set(answer?.instructions?.map(tidy)) // on which this pack trained it
  }
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
  app.canvas.setDirty(true, true)
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
